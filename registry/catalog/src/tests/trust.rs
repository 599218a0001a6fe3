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
    r.ok(UpdateLinkPeer { revoked: revoked.clone(), ..update_peer("phx", 7) });
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
    let drain = |draining| DrainGateway { node: NodeId(2), draining };
    assert_eq!(r.effect(drain(true)).1, [Event::GatewaysChanged]);
    assert_eq!(r.effect(drain(true)).1, []);
    assert!(r.catalog.is_draining(NodeId(2)));
    r.ok(drain(false));
    r.ok(drain(true));
    r.ok(RemoveGateway { node: NodeId(2) });
    assert_eq!((r.catalog.is_draining(NodeId(2)), r.catalog.removed(NodeId(2))), (false, Some(NOW)));
    assert_eq!(r.refuse(AddGateway { facts: gateway(2) }).reason(), "gateway-removed");
    assert_eq!(r.refuse(RemoveGateway { node: NodeId(2) }).reason(), "gateway-removed");
    for node in 3..5_003 {
        r.at += 1;
        r.ok(AddGateway { facts: gateway(node) });
        r.ok(RemoveGateway { node: NodeId(node) });
    }
    assert_eq!(r.catalog.removed.len(), 4_096, "the oldest are forgotten");
    assert_eq!((r.catalog.removed(NodeId(3)), r.catalog.removed(NodeId(5_002)).is_some()), (None, true));
}

#[test]
fn the_gateways_of_a_lost_group_are_removed() {
    let mut r = Replica::new();
    r.ok(AddGateway { facts: gateway(2) });
    r.ok(DrainGateway { node: NodeId(2), draining: true });
    r.catalog.replace_gateways(gateway(9), 77);
    let nodes: Vec<u64> = r.catalog.gateways().map(|gateway| gateway.node.0).collect();
    assert_eq!(
        (nodes, r.catalog.removed(NodeId(1)), r.catalog.is_draining(NodeId(2))),
        (vec![9], Some(77), false)
    );
}
