//! Nothing grows without a limit.

use super::fixture::*;
use crate::*;
use causeway_model::*;

fn limited(bound: Bound) -> Refusal {
    Refusal::LimitReached { bound }
}

fn declares(n: u64, services: usize) -> CreateToken {
    let name = |i| parsed(&format!("s{n}-{i}.shop"));
    let services =
        (0..services).map(|i| ServiceDeclaration { name: name(i), ports: PortSet::default() }).collect();
    let kind = TokenKind::Workload { identity: identity("web"), services };
    CreateToken { kind, ..token(n, "x", "x.x", "") }
}

#[test]
fn tokens_are_limited_and_dead_ones_make_room() {
    let mut r = Replica::new();
    for n in 0..10_000 {
        r.ok(gateway_token(n));
    }
    assert_eq!(r.refuse(gateway_token(10_000)), limited(Bound::Tokens));
    r.ok(RevokeToken { id: token_id(3) });
    r.ok(gateway_token(10_000));
    assert!(r.catalog.token(token_id(3)).is_none());
    assert_eq!(r.refuse(gateway_token(10_001)), limited(Bound::Tokens));
}

#[test]
fn services_are_limited() {
    let mut r = Replica::new();
    for n in 0..3_125 {
        r.ok(declares(n, 32));
    }
    assert_eq!(r.catalog.services().len(), 100_000);
    assert_eq!(r.refuse(declares(9_000, 1)), limited(Bound::Services));
    r.ok(RemoveService { name: parsed("s0-0.shop") });
    assert_eq!(r.refuse(declares(9_000, 2)), limited(Bound::Services));
    r.ok(declares(9_000, 1));
}

#[test]
fn services_of_a_token_and_identities_of_a_service_are_limited() {
    let mut r = Replica::new();
    assert_eq!(r.refuse(declares(1, 33)), limited(Bound::TokenServices));
    for n in 0..64 {
        r.ok(token(n, &format!("a{n}"), "web.shop", ""));
    }
    assert_eq!(r.refuse(token(64, "a64", "web.shop", "")), limited(Bound::Identities));
    r.ok(token(64, "a63", "web.shop", "80"));
}

#[test]
fn gateways_are_limited() {
    let mut r = Replica::new();
    for node in 2..=256 {
        r.ok(AddGateway { facts: gateway(node) });
    }
    assert_eq!(r.refuse(AddGateway { facts: gateway(257) }), limited(Bound::Gateways));
    r.ok(AddGateway { facts: gateway(256) });
    let gateways = (1..=257).map(gateway).collect();
    assert_eq!(r.refuse(EstablishLink { gateways, ..link(None, facts("phx", 2)) }), limited(Bound::Gateways));
}

#[test]
fn invites_are_limited_and_dead_ones_make_room() {
    let mut r = Replica::new();
    for n in 0..1_000 {
        r.ok(invite(n, None));
    }
    assert_eq!(r.refuse(invite(1_000, None)), limited(Bound::Invites));
    r.ok(link(Some(7), facts("phx", 2)));
    r.ok(invite(1_000, None));
    assert!(r.catalog.invite(invite_id(7)).is_none());
}

#[test]
fn links_and_what_they_bring_are_limited() {
    let mut r = Replica::new();
    for n in 2..=1_001 {
        r.ok(link(None, facts(&format!("c{n}"), n)));
    }
    assert_eq!(r.refuse(link(None, facts("c1002", 1_002))), limited(Bound::Links));
    assert_eq!(r.ok(link(None, facts("c2", 2))), Outcome::Link { replaced: true });
    let namespaces = (0..1_001).map(|n| parsed(&format!("n{n}"))).collect();
    let merge_namespaces = MergeRule::Only(namespaces);
    let merging = EstablishLink { merge_namespaces, ..link(None, facts("c2", 2)) };
    assert_eq!(r.refuse(merging), limited(Bound::MergeNamespaces));
    let rooted = UpdateLinkPeer { roots: vec![vec![1]; 17], ..update_peer("c2", 1) };
    assert_eq!(r.refuse(rooted), limited(Bound::Roots));
}

#[test]
fn what_one_cluster_says_of_its_trust_is_limited_in_bytes() {
    let mut r = Replica::new();
    r.ok(link(None, facts("phx", 2)));
    let name = |n: usize| {
        parsed(&format!("spiffe://phx.mesh/ns/shop/sa/{n:04}/{}", vec!["a".repeat(60); 4].join("/")))
    };
    let revoked = |count: usize| {
        let one = |n| Revocation { subject: RevokedSubject::Identity(name(n)), issued_before: NOW };
        (0..count).map(one).collect::<Vec<_>>()
    };
    let (roots, each) = (update_peer("phx", 1).roots, revoked(1)[0].encoded_len());
    let most = (Revocation::MAX_TRUST_BYTES - trust_len(&roots, [])) / each;
    assert!(most < Revocation::MAX_PER_DOMAIN, "{most}");
    let refused = r.refuse(UpdateLinkPeer { revoked: revoked(most + 1), ..update_peer("phx", 1) });
    let text = refused.to_string();
    assert!(text.contains("phx.mesh") && text.contains("of at most 262144"), "{text}");
    r.ok(UpdateLinkPeer { revoked: revoked(most), ..update_peer("phx", 1) });
    // with as many revocations as there may be, of names of a usual length, there is room for roots of a rotation
    let usual = (0..Revocation::MAX_PER_DOMAIN).map(|n| Revocation {
        subject: RevokedSubject::Identity(parsed(&format!(
            "spiffe://phx.mesh/ns/payments-production/sa/card-authorisation-{n:04}"
        ))),
        issued_before: NOW,
    });
    let roots = vec![vec![1; 2_000]; 4];
    r.ok(UpdateLinkPeer { roots, revoked: usual.collect(), ..update_peer("phx", 2) });
}

#[test]
fn clusters_of_an_export_are_limited() {
    let mut r = Replica::new();
    r.ok(token(1, "web", "web.shop", ""));
    let named =
        |range: std::ops::Range<u32>| ExportTo::Clusters(range.map(|n| parsed(&format!("c{n}"))).collect());
    assert_eq!(r.refuse(export("web.shop", 1, named(0..1_001))), limited(Bound::ExportClusters));
    r.ok(export("web.shop", 1, named(0..1_000)));
    assert_eq!(r.refuse(export("web.shop", 1, named(999..1_001))), limited(Bound::ExportClusters));
    r.ok(export("web.shop", 1, named(998..1_000)));
}

#[test]
fn epochs_are_limited() {
    let mut r = Replica::new();
    for epoch in 2..=4 {
        r.ok(rotate(Some(epoch), Some(epoch)));
    }
    assert_eq!(r.refuse(rotate(Some(5), None)), limited(Bound::Epochs));
    assert_eq!(r.refuse(rotate(None, Some(5))), limited(Bound::Epochs));
    r.ok(drop_keys(&[1, 2], &[]));
    r.ok(rotate(Some(5), None));
    assert_eq!(r.refuse(rotate(Some(6), Some(6))), limited(Bound::Epochs));
}

#[test]
fn the_oldest_uses_of_tokens_are_forgotten() {
    let mut r = Replica::new();
    r.ok(CreateToken { uses: u32::MAX, ..token(1, "web", "web.shop", "") });
    let left = |r: &Replica| u32::MAX - r.catalog.token(token_id(1)).unwrap().uses_left;
    (0..=1_000).for_each(|workload| drop(r.ok(use_token_by(1, workload))));
    assert_eq!((r.catalog.last_uses.len(), left(&r)), (1_000, 1_001));
    r.ok(use_token_by(1, 1));
    assert_eq!(left(&r), 1_001);
    r.ok(use_token_by(1, 0));
    assert_eq!(left(&r), 1_002, "it was forgotten");
}

#[test]
fn the_audit_forgets_the_oldest() {
    let mut r = Replica::new();
    for _ in 0..1_500 {
        r.refuse(use_token(1));
    }
    let revisions: Vec<u64> = r.catalog.audit().map(|entry| entry.revision.0).collect();
    assert_eq!(revisions, (502..=1_501).collect::<Vec<u64>>());
}
