//! The rotation of roots, revocations, and gateways that are drained or removed.

use super::fixture::*;
use crate::*;
use causeway_model::*;

fn ca(r: &Replica) -> CaState {
    r.catalog.cluster().unwrap().ca.clone()
}

#[test]
fn a_rotation_announces_then_signs_then_drops() {
    let mut r = Replica::new();
    let old = ca(&r);
    let start = r.catalog.trust_revision();
    assert_eq!(r.effect(stage(7)).1, [Event::ClusterChanged]);
    let staged = ca(&r);
    assert_eq!((staged.roots.len(), staged.active_root_der()), (2, old.active_root_der()));
    assert_eq!((staged.sealed_key, staged.keep_secs), (old.sealed_key, 60));
    assert!(r.catalog.trust_revision() > start && staged.roots_changed == r.catalog.trust_revision());
    let announced = r.catalog.trust_revision();
    r.ok(ActivateRoot { root_der: vec![7] });
    let active = ca(&r);
    assert_eq!(active.active_root_der(), Some(&[7][..]), "the root that signs is the first: tokens pin that");
    assert_eq!((active.active_root, active.sealed_key, active.chain), (0, vec![7, 7], vec![vec![7, 1]]));
    assert_eq!((active.staged, active.activated), (None, r.catalog.revision()));
    assert_eq!(r.catalog.trust_revision(), announced, "whom to trust is the same");
    r.ok(DropRoot { root_der: old.roots[0].clone() });
    assert_eq!(ca(&r).roots, [vec![7]]);
    assert!(r.catalog.trust_revision() > announced);
}

#[test]
fn a_rotation_that_is_given_up_leaves_what_was() {
    let mut r = Replica::new();
    let old = ca(&r);
    r.ok(stage(7));
    r.ok(DropRoot { root_der: vec![7] });
    let now = ca(&r);
    assert_eq!((now.roots, now.staged, now.active_root), (old.roots.clone(), None, 0));
    // another signer below the root that signs already
    r.ok(StageRoot { root_der: old.roots[0].clone(), ..stage(8) });
    assert_eq!(ca(&r).roots, old.roots);
    r.ok(DropRoot { root_der: old.roots[0].clone() });
    assert_eq!((ca(&r).staged, ca(&r).sealed_key), (None, old.sealed_key));
}

#[test]
fn a_linked_cluster_confirms_what_there_is() {
    let mut r = Replica::new();
    r.ok(link(None, facts("phx", 2)));
    let now = r.catalog.revision();
    let confirm = |revision| ConfirmRoots { cluster: parsed("phx"), revision };
    assert_eq!(r.effect(confirm(now)).1, [Event::LinkChanged(parsed("phx"))]);
    assert_eq!(r.effect(confirm(Revision(1))).1, [], "what is older says nothing");
    assert_eq!(r.catalog.link(&parsed("phx")).unwrap().confirmed, now);
}

#[test]
fn a_revoked_identity_loses_its_tokens_and_is_forgotten_in_time() {
    let mut r = Replica::new();
    r.ok(token(1, "web", "web.shop", "80"));
    r.ok(token(2, "pay", "pay.shop", "80"));
    let (_, events) = r.effect(revoke("web"));
    assert_eq!(events, [Event::ClusterChanged, Event::TokensChanged]);
    assert_eq!(r.refuse(use_token(1)).reason(), "token-revoked");
    r.ok(use_token(2));
    let revoked = r.catalog.revoked().next().unwrap();
    assert_eq!((revoked.revocation.issued_before, revoked.ends_at), (NOW, NOW + 100));
    assert_eq!(r.catalog.trust_revision(), Revision(r.catalog.revision().0 - 2));
    // a new token gives it new certificates
    r.ok(token(3, "web", "web.shop", "80"));
    r.ok(use_token(3));
    r.at = NOW + 100;
    let before = r.catalog.trust_revision();
    r.ok(CreateToken { expires_at: NOW + 200, ..token(4, "web", "web.shop", "80") });
    assert_eq!(r.catalog.revoked().len(), 0);
    assert!(r.catalog.trust_revision() > before, "sidecars are told that it is gone");
}

#[test]
fn what_a_peer_revokes_and_pauses_is_kept_with_the_link() {
    let mut r = Replica::new();
    r.ok(link(None, facts("phx", 2)));
    r.ok(update_peer("phx", 5));
    let before = r.catalog.trust_revision();
    let revoked = vec![Revocation { subject: RevokedSubject::Key([1; 32]), issued_before: 9 }];
    r.ok(UpdateLinkPeer { paused: true, ..update_peer("phx", 6) });
    assert_eq!(r.catalog.trust_revision(), before, "a pause says nothing of trust");
    let own = r.catalog.own_trust_revision();
    r.ok(UpdateLinkPeer { revoked: revoked.clone(), ..update_peer("phx", 7) });
    assert_eq!(r.catalog.own_trust_revision(), own, "this cluster says what it said");
    let kept = r.catalog.link(&parsed("phx")).unwrap();
    assert_eq!((&kept.revoked, kept.peer_paused), (&revoked, false));
    assert_eq!((kept.trust_changed, r.catalog.trust_revision()), (kept.changed, kept.changed));
}

#[test]
fn a_link_is_paused_and_its_policy_set() {
    let mut r = Replica::new();
    r.ok(link(None, facts("phx", 2)));
    let pause = |paused| PauseLink { cluster: parsed("phx"), paused };
    assert_eq!(r.effect(pause(true)).1.len(), 1);
    assert_eq!(r.effect(pause(true)).1, []);
    assert!(r.catalog.link(&parsed("phx")).unwrap().paused);
    let stale = StalePolicy::EjectAfter { seconds: 5 };
    let policy = SetLinkPolicy { stale, transit: true, ..policy("phx") };
    assert_eq!(r.effect(policy.clone()).1.len(), 1);
    assert_eq!(r.effect(policy).1, []);
    let link = r.catalog.link(&parsed("phx")).unwrap();
    assert_eq!((link.stale, link.transit, &link.merge_namespaces), (stale, true, &MergeRule::All));
    r.ok(pause(false));
    assert!(!r.catalog.link(&parsed("phx")).unwrap().paused);
}

#[test]
fn a_gateway_is_drained_and_a_removed_one_never_comes_back() {
    let mut r = Replica::new();
    r.ok(AddGateway { facts: gateway(2) });
    let drain = |draining| super::fixture::drain(2, draining);
    assert_eq!(r.effect(drain(true)).1, [Event::GatewaysChanged]);
    assert_eq!(r.effect(drain(true)).1, []);
    assert!(r.catalog.is_draining(NodeId(2)));
    r.ok(drain(false));
    r.ok(drain(true));
    let before = r.catalog.trust_revision();
    let (_, events) = r.effect(remove_gateway(2));
    assert_eq!(events, [Event::GatewaysChanged, Event::ClusterChanged]);
    let revoked = r.catalog.revoked().next().unwrap();
    let identity = "spiffe://iad.mesh/causeway/gateway/0000000000000002";
    assert_eq!(revoked.revocation.subject.to_string(), identity, "linked clusters hear of revocations alone");
    assert_eq!((revoked.revocation.issued_before, revoked.ends_at), (NOW, NOW + 100_000));
    assert!(r.catalog.trust_revision() > before);
    assert_eq!((r.catalog.is_draining(NodeId(2)), r.catalog.removed(NodeId(2))), (false, Some(NOW)));
    assert_eq!(r.refuse(AddGateway { facts: gateway(2) }).reason(), "gateway-removed");
    assert_eq!(r.refuse(remove_gateway(2)).reason(), "gateway-removed");
    for node in 3..5_003 {
        r.at += 1;
        r.ok(AddGateway { facts: gateway(node) });
        r.ok(RemoveGateway { revoked_until: r.at + 1, ..remove_gateway(node) });
    }
    assert_eq!(r.catalog.removed.len(), 4_096, "the oldest are forgotten");
    assert_eq!((r.catalog.removed(NodeId(3)), r.catalog.removed(NodeId(5_002)).is_some()), (None, true));
}

#[test]
fn a_gateway_that_cannot_be_revoked_is_not_removed_either() {
    let mut r = Replica::new();
    r.ok(AddGateway { facts: gateway(2) });
    let key = |n: usize| {
        RevokedSubject::Key(
            [u8::try_from(n / 256).unwrap(), u8::try_from(n % 256).unwrap()].repeat(16).try_into().unwrap(),
        )
    };
    let keys = Revocation::MAX_PER_DOMAIN - GATEWAY_REVOCATIONS;
    r.ok(Revoke { subjects: (0..keys).map(key).collect(), ..revoke("web") });
    let full = Refusal::LimitReached { bound: Bound::Revocations };
    assert_eq!(r.refuse(revoke("web")), full);
    // as many gateways as places are kept for them
    for node in 2.. {
        r.ok(AddGateway { facts: if node % 2 == 0 { gateway(node) } else { forwarder(node) } });
        if r.catalog.revoked().len() == Revocation::MAX_PER_DOMAIN {
            assert_eq!(r.refuse(remove_gateway(node)), full);
            break;
        }
        r.ok(remove_gateway(node));
    }
    assert_eq!(r.catalog.revoked().len() - keys, GATEWAY_REVOCATIONS);
    r.ok(Revoke { subjects: [key(5)].into(), ..revoke("web") });
    r.ok(Reinstate { subject: key(5) });
    assert_eq!(r.refuse(revoke("web")), full, "the place is for gateways again");
    r.ok(remove_gateway(18));
}

#[test]
fn room_for_the_revocations_of_gateways_is_kept_in_bytes_too() {
    let mut r = Replica::new();
    r.ok(AddGateway { facts: gateway(2) });
    let long = |n: usize| {
        let path = vec!["a".repeat(60); 4].join("/");
        RevokedSubject::Identity(parsed(&format!("spiffe://iad.mesh/ns/shop/sa/{n:04}/{path}")))
    };
    let full = (0..)
        .map(long)
        .find_map(|subject| r.apply(Revoke { subjects: [subject].into(), ..revoke("web") }).outcome.err());
    assert_eq!(full.unwrap().reason(), "trust-too-large");
    assert_eq!(r.refuse(StageRoot { root_der: vec![7; 400], ..stage(7) }).reason(), "trust-too-large");
    r.ok(remove_gateway(2));
}

#[test]
fn of_two_gateways_one_that_is_in_use_stays() {
    let mut r = Replica::new();
    [gateway(2), forwarder(3)].into_iter().for_each(|facts| drop(r.ok(AddGateway { facts })));
    r.ok(drain(1, true));
    assert_eq!(r.refuse(remove_gateway(2)), Refusal::GatewayLastInUse { node: NodeId(2) });
    // a forwarder takes no sidecars
    assert_eq!(r.refuse(drain(2, true)), Refusal::GatewayLastInUse { node: NodeId(2) });
    r.ok(drain(3, true));
    r.ok(remove_gateway(3));
    r.ok(drain(1, false));
    r.ok(remove_gateway(2));
}

#[test]
fn of_two_gateways_that_are_drained_at_once_one_stays() {
    let mut r = Replica::new();
    [2, 3].into_iter().for_each(|node| drop(r.ok(AddGateway { facts: gateway(node) })));
    // gateway 3 is dead: whoever asked for each of these saw the other one ready, and nobody else
    let drain_from = |node, ready: u64| DrainGateway { ready: [NodeId(ready)].into(), ..drain(node, true) };
    r.ok(drain_from(1, 2));
    assert_eq!(r.refuse(drain_from(2, 1)), Refusal::GatewayLastInUse { node: NodeId(2) });
    r.ok(drain_from(1, 2));
    r.ok(drain_from(2, 3));
    assert_eq!(r.refuse(drain(3, true)).reason(), "gateway-last-in-use");
    r.ok(DrainGateway { ready: [].into(), ..drain(1, false) });
    r.ok(drain(3, true));
}

#[test]
fn of_two_changes_from_the_same_start_the_second_is_refused() {
    let mut r = Replica::new();
    r.ok(token(1, "web", "web.shop", ""));
    r.ok(link(None, facts("phx", 2)));
    let (service, cluster) = (parsed("web.shop"), parsed("phx"));
    let change = |was: &Witness, change: Change| ChangeIf { was: was.clone(), change };
    let before = r.catalog.witness_of_link(&cluster);
    // what the peer says of itself is no change of what operators want
    r.ok(update_peer("phx", 5));
    let pause = || PauseLink { cluster: parsed("phx"), paused: true }.into();
    r.ok(change(&before, policy("phx").into()));
    let refused = r.refuse(change(&before, pause()));
    assert_eq!(refused, Refusal::ResourceChanged { resource: "link phx".into() });
    assert_eq!(r.catalog.audit().last().unwrap().command, "pause-link");
    r.ok(change(&r.catalog.witness_of_link(&cluster), pause()));
    assert!(r.catalog.link(&cluster).unwrap().paused);

    let before = r.catalog.witness_of_export(&service);
    assert_eq!(before, Witness::Export(None));
    r.ok(change(&before, export("web.shop", 1, clusters(&["phx"])).into()));
    assert_eq!(
        r.refuse(change(&before, export("web.shop", 2, ExportTo::All).into())).reason(),
        "resource-changed"
    );
    r.ok(change(&Witness::Export(Some(clusters(&["phx"]))), unexport("web.shop", None).into()));
    let before = r.catalog.witness_of_service(&service);
    r.ok(change(&before, declare("web.shop", "80").into()));
    assert_eq!(r.refuse(change(&before, declare("web.shop", "80").into())).reason(), "resource-changed");
}

#[test]
fn the_gateways_of_a_lost_group_are_removed() {
    let mut r = Replica::new();
    r.ok(AddGateway { facts: gateway(2) });
    r.ok(drain(2, true));
    r.catalog.replace_gateways(gateway(9), 77);
    let nodes: Vec<u64> = r.catalog.gateways().map(|gateway| gateway.node.0).collect();
    assert_eq!(
        (nodes, r.catalog.removed(NodeId(1)), r.catalog.is_draining(NodeId(2))),
        (vec![9], Some(77), false)
    );
}
