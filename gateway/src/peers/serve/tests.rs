//! What a caller of each role may do, as its certificate and the registry say.

use super::*;
use crate::hub::fixture::{Client, Fixture};
use crate::peers::exchange;
use causeway_catalog::{CommandBody, RemoveGateway};
use causeway_identity::{KeyPair, Svid};
use causeway_model::{Locality, Revision};
use causeway_wire::alpn;
use causeway_wire::peer::Call;

const METHODS: [Method; 6] =
    [Method::Append, Method::Vote, Method::Snapshot, Method::Propose, Method::AddLearner, Method::ReadIndex];

#[test]
fn a_forwarder_changes_nothing_whatever_the_registry_says() {
    use GatewayRole::{Forwarder, Gateway};
    let standings =
        [Standing::Known(Gateway), Standing::Known(Forwarder), Standing::Unheard, Standing::Removed];
    for (standing, method) in standings.into_iter().flat_map(|s| METHODS.map(|method| (s, method))) {
        let allowed = may_call(Forwarder, standing, method);
        assert_eq!(allowed, method == Method::ReadIndex, "{standing:?} {method:?}");
    }
}

#[test]
fn a_gateway_that_is_not_heard_of_yet_may_call_and_a_removed_one_may_not() {
    use GatewayRole::{Forwarder, Gateway};
    for method in METHODS {
        for standing in [Standing::Known(Gateway), Standing::Unheard] {
            assert!(may_call(Gateway, standing, method), "{standing:?} {method:?}");
        }
        for standing in [Standing::Known(Forwarder), Standing::Removed] {
            let allowed = may_call(Gateway, standing, method);
            assert_eq!(allowed, method == Method::ReadIndex, "{standing:?} {method:?}");
        }
    }
}

#[test]
fn the_audit_says_who_was_removed() {
    let entry = |command: &CommandBody, refused| AuditEntry {
        revision: Revision(9),
        at: 1_800_000_000,
        by: "operator".into(),
        command: command.name().into(),
        subject: command.subject(),
        refused,
    };
    let remove = |node| CommandBody::from(RemoveGateway { node: NodeId(node) });
    let unknown = causeway_catalog::Refusal::GatewayUnknown { node: NodeId(3) };
    let audit = [entry(&remove(2), None), entry(&remove(3), Some(unknown))];
    let removed = |node| was_removed(audit.iter(), NodeId(node));
    assert_eq!([1, 2, 3].map(removed), [false, true, false]);
}

fn facts(node: NodeId, role: GatewayRole) -> GatewayFacts {
    let locality = Locality { region: "us-ashburn-1".parse().unwrap(), zone: "AD-1".parse().unwrap() };
    let addr = vec!["127.0.0.1:1".parse().unwrap()];
    GatewayFacts { node, role, locality, cluster_addrs: addr.clone(), link_addrs: addr }
}

/// A sibling with a certificate of this role.
async fn sibling(fixture: &Fixture, role: GatewayRole, node: NodeId) -> Client {
    let id = SpiffeId::node(&fixture.hub.node.cluster().trust_domain, role, node);
    fixture.connect(alpn::RAFT, &fixture.hub.ca().unwrap(), &id).await
}

/// Why a vote was refused; its argument is no vote, so that one that may be asked for is refused too.
async fn vote(client: &Client) -> String {
    match exchange(&client.connection, Call { method: Method::Vote, body: vec![0xff] }.into()).await {
        Err(CallError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// The path of the identity that a renewal gives, or why there is none.
async fn renewed(client: &Client) -> String {
    let key = KeyPair::generate().unwrap();
    match exchange(&client.connection, RenewGateway { csr: key.csr().unwrap() }.into()).await {
        Ok(PeerMessage::Renewed(renewed)) => Svid::new(renewed.chain, key).unwrap().id().path().to_owned(),
        Err(CallError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_served_before_it_is_heard_of_and_not_after_it_was_removed() {
    let fixture = Fixture::start().await;
    let (hub, node) = (&fixture.hub, NodeId(9));
    let gateway = sibling(&fixture, GatewayRole::Gateway, node).await;
    assert_ne!(vote(&gateway).await, "wrong-role");
    assert_eq!(renewed(&gateway).await, "gateway-unknown");
    hub.propose("test", AddGateway { facts: facts(node, GatewayRole::Gateway) }).await.unwrap();
    assert_ne!(vote(&gateway).await, "wrong-role");
    assert_eq!(renewed(&gateway).await, "/causeway/gateway/0000000000000009");
    hub.propose("test", RemoveGateway { node }).await.unwrap();
    assert_eq!(vote(&gateway).await, "wrong-role");
    assert_eq!(renewed(&gateway).await, "gateway-unknown");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forwarder_is_renewed_as_a_forwarder_and_as_nothing_else() {
    let fixture = Fixture::start().await;
    let node = NodeId(8);
    let added = AddGateway { facts: facts(node, GatewayRole::Forwarder) };
    fixture.hub.propose("test", added).await.unwrap();
    let forwarder = sibling(&fixture, GatewayRole::Forwarder, node).await;
    assert_eq!(renewed(&forwarder).await, "/causeway/forwarder/0000000000000008");
    assert_eq!(vote(&forwarder).await, "wrong-role");
    let posing = sibling(&fixture, GatewayRole::Gateway, node).await;
    assert_eq!(renewed(&posing).await, "gateway-unknown");
    assert_eq!(vote(&posing).await, "wrong-role");
    // its role stays what it joined as
    let raised = causeway_wire::peer::UpdateFacts { facts: facts(node, GatewayRole::Gateway) };
    for client in [&forwarder, &posing] {
        match exchange(&client.connection, raised.clone().into()).await {
            Err(CallError::Refused { reason, .. }) => assert_eq!(reason, "wrong-role"),
            other => panic!("{other:?}"),
        }
    }
    fixture.stop().await;
}
