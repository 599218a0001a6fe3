//! What a caller of each role may do, as its certificate and the registry say.

use super::*;
use crate::hub::fixture::{Client, Fixture, SOON};
use crate::peers::exchange;
use causeway_catalog::{CreateToken, Reinstate, RemoveGateway, Verifier};
use causeway_identity::{KeyPair, Svid};
use causeway_model::{Locality, RevokedSubject, WorkloadId};
use causeway_presence::{Incarnation, Row, TableDigest};
use causeway_transport::exporter;
use causeway_wire::alpn;
use causeway_wire::peer::{Call, Presence};
use causeway_wire::token::{EXPORTER_LABEL, join_proof};
use std::sync::Arc;

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

const SNAPSHOT: Message =
    Message::Snapshot { incarnation: Incarnation(1), version: 0, part: 0, last: true, rows: Vec::new() };

#[test]
fn a_forwarder_tells_of_no_workloads() {
    use GatewayRole::{Forwarder, Gateway};
    let (incarnation, version, digest) = (Incarnation(1), 0, TableDigest::default());
    let deltas = Message::Deltas { incarnation, from: 0, to: 1, changes: Vec::new() };
    for rows in [deltas, SNAPSHOT] {
        assert!(may_tell(Gateway, Some(Gateway), &rows) && may_tell(Gateway, None, &rows));
        assert!(!may_tell(Gateway, Some(Forwarder), &rows));
        for known in [None, Some(Gateway), Some(Forwarder)] {
            assert!(!may_tell(Forwarder, known, &rows), "{known:?}");
        }
    }
    for needed in [
        Message::Hello { incarnation, version, digest },
        Message::Digest { incarnation, version, digest },
        Message::Heartbeat { incarnation, version },
        Message::SnapshotRequest { incarnation, have: 0, full: true },
    ] {
        assert!(may_tell(Forwarder, Some(Forwarder), &needed), "{needed:?}");
    }
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
    hub.propose("test", RemoveGateway { node, revoked_until: u64::MAX }).await.unwrap();
    let closed = tokio::time::timeout(SOON, gateway.connection.closed()).await.unwrap();
    assert!(causeway_transport::says_revoked(&closed), "{closed}");
    // that its certificates are good again does not make it a member
    let id = SpiffeId::gateway(&hub.node.cluster().trust_domain, node);
    hub.propose("test", Reinstate { subject: RevokedSubject::Identity(id) }).await.unwrap();
    let (bundles, domain) = (hub.node.bundles(), &hub.node.cluster().trust_domain);
    let good = async {
        while !bundles.get(domain).unwrap().revoked.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, good).await.unwrap();
    let gateway = sibling(&fixture, GatewayRole::Gateway, node).await;
    assert_eq!(vote(&gateway).await, GATEWAY_REMOVED);
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

/// Tells of a living workload with that number; returns after the gateway has heard it, which `heard` frames of other kinds show.
async fn tell_row(fixture: &Fixture, client: &Client, workload: u64, heard: u64) {
    let incarnation = Incarnation(1);
    let row = Row {
        workload: WorkloadId(workload),
        identity: "spiffe://iad.mesh/ns/shop/sa/payments".parse().unwrap(),
        services: Vec::new(),
        locality: facts(NodeId(9), GatewayRole::Gateway).locality,
        weight: 1,
        overlay: Vec::new(),
        release: "1.0.0".into(),
        svid_key: [0; 32],
        older_keys: Box::default(),
        seq: 1,
        attached: true,
    };
    let (digest, rows) = (TableDigest::default(), vec![Arc::new(row)]);
    let told = [
        Message::Hello { incarnation, version: 1, digest },
        Message::Snapshot { incarnation, version: 1, part: 0, last: true, rows },
        Message::Heartbeat { incarnation, version: 1 },
    ];
    let mut writer = FrameWriter::new(client.connection.open_uni().await.unwrap());
    for message in told {
        if matches!(message, Message::Heartbeat { .. }) {
            let frame = [&4_u32.to_be_bytes()[..], &900_u16.to_be_bytes(), &1_u16.to_be_bytes()].concat();
            writer.get_mut().write_all(&frame).await.unwrap();
        }
        let body = causeway_wire::codec::to_vec(&message).unwrap();
        writer.send(&PeerMessage::from(Presence { body })).await.unwrap();
    }
    fixture.shows(&format!("causeway_frames_skipped_total{{protocol=\"raft\"}} {heard}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forwarder_makes_up_no_workloads() {
    let fixture = Fixture::start().await;
    for (role, node, heard) in [(GatewayRole::Forwarder, 8, 1), (GatewayRole::Gateway, 9, 2)] {
        let node = NodeId(node);
        fixture.hub.propose("test", AddGateway { facts: facts(node, role) }).await.unwrap();
        let client = sibling(&fixture, role, node).await;
        tell_row(&fixture, &client, node.0, heard).await;
        assert_eq!(fixture.hub.is_alive(WorkloadId(node.0)), role == GatewayRole::Gateway, "{role}");
    }
    fixture.stop().await;
}

/// Asks with `key` for what token 7 gives a gateway; the reason if it is refused. `proof` makes the proof of the secret.
async fn join(fixture: &Fixture, csr: Vec<u8>, proof: impl FnOnce(&[u8; 32], &[u8]) -> [u8; 32]) -> String {
    let client = fixture.dial(alpn::RAFT, None).await;
    let bound = exporter(&client.connection, EXPORTER_LABEL, b"").unwrap();
    let facts = facts(NodeId(9), GatewayRole::Gateway);
    let join = JoinGateway {
        token: 7_u64.to_be_bytes(),
        proof: proof(&bound, &csr),
        csr,
        role: facts.role,
        locality: facts.locality,
        cluster_addrs: facts.cluster_addrs,
        link_addrs: facts.link_addrs,
    };
    match exchange(&client.connection, join.into()).await {
        Ok(PeerMessage::Joined(_)) => "joined".into(),
        Err(CallError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_proven_before_anything_is_parsed_and_a_spent_one_writes_nothing() {
    let fixture = Fixture::start().await;
    let id = 7_u64.to_be_bytes();
    let verifier = Verifier(fixture.hub.node.mask_verifier(&id, [7; 32]).unwrap());
    let kind = TokenKind::Gateway { role: GatewayRole::Gateway };
    let expires_at = causeway_runtime::clock::unix_now() + 600;
    let token = CreateToken { id: id.into(), verifier, kind, uses: 1, expires_at };
    fixture.hub.propose("test", token).await.unwrap();
    assert_eq!(join(&fixture, vec![0; 100], |_, _| [0; 32]).await, "token-unknown");
    assert_eq!(join(&fixture, vec![0; 9000], |_, _| [0; 32]).await, "csr-too-large");
    let proven = |bound: &[u8; 32], csr: &[u8]| join_proof(&[7; 32], bound, csr);
    let [first, other] = [(); 2].map(|()| KeyPair::generate().unwrap().csr().unwrap());
    assert_eq!(join(&fixture, first.clone(), proven).await, "joined");
    let written = || (fixture.hub.catalog().gateways().len(), fixture.hub.catalog().audit().len());
    let once = written();
    for _ in 0..3 {
        assert_eq!(join(&fixture, first.clone(), proven).await, "joined");
        assert_eq!(join(&fixture, other.clone(), proven).await, "token-used-up");
    }
    assert_eq!(written(), once);
    fixture.stop().await;
}
