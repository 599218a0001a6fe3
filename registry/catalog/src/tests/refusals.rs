//! Every refusal, what it says, and that it changes nothing.

use super::fixture::*;
use crate::*;
use causeway_model::*;
use std::collections::BTreeSet;

/// A catalog with something of everything.
fn furnished() -> Replica {
    let mut r = Replica::new();
    r.ok(AddGateway { facts: forwarder(2) });
    r.ok(token(1, "web", "web.shop", "80/http"));
    r.ok(token(2, "pay", "pay.shop", "443"));
    r.ok(token(3, "pay", "bare.shop", ""));
    r.ok(gateway_token(4));
    r.ok(export("web.shop", 100, clusters(&["phx"])));
    r.ok(export("pay.shop", 101, ExportTo::All));
    r.ok(invite(1, Some("phx")));
    r.ok(invite(2, Some("lhr")));
    r.ok(invite(3, None));
    r.ok(link(Some(1), facts("phx", 2)));
    r.ok(update_peer("phx", 5));
    r
}

fn invalid_values() -> Vec<CommandBody> {
    let far = Locality { region: "x".repeat(129), zone: String::new() };
    let named = |peer: ClusterFacts| link(None, peer);
    let addr: HostPort = std::net::SocketAddr::from(([10, 0, 0, 1], 0)).into();
    vec![
        AddGateway { facts: gateway(0) }.into(),
        AddGateway { facts: GatewayFacts { locality: far.clone(), ..gateway(3) } }.into(),
        AddGateway { facts: GatewayFacts { link_addrs: vec![addr], ..gateway(3) } }.into(),
        CreateToken { uses: 0, ..token(9, "web", "web.shop", "") }.into(),
        CreateToken { expires_at: NOW, ..token(9, "web", "web.shop", "") }.into(),
        twice_declared().into(),
        declare("web.shop", "").into(),
        export("web.shop", 1, clusters(&[])).into(),
        unexport("web.shop", Some(&[])).into(),
        CreateInvite { expires_at: NOW - 1, ..invite(9, None) }.into(),
        invite(9, Some("iad")).into(),
        named(ClusterFacts { locality: far, ..facts("lhr", 3) }).into(),
        EstablishLink { roots: vec![], ..link(None, facts("lhr", 3)) }.into(),
        EstablishLink { roots: vec![vec![]], ..link(None, facts("lhr", 3)) }.into(),
        EstablishLink { roots: vec![vec![0; 20_000]], ..link(None, facts("lhr", 3)) }.into(),
        EstablishLink { gateways: vec![], ..link(None, facts("lhr", 3)) }.into(),
        EstablishLink { gateways: vec![gateway(1), gateway(1)], ..link(None, facts("lhr", 3)) }.into(),
        UpdateLinkPeer { roots: vec![], ..update_peer("phx", 6) }.into(),
        UpdateLinkPeer { gateways: vec![], ..update_peer("phx", 6) }.into(),
        rotate(None, None).into(),
        drop_keys(&[], &[]).into(),
        StageRoot { root_der: vec![], ..stage(7) }.into(),
        StageRoot { sealed_key: vec![], ..stage(7) }.into(),
        StageRoot { chain: vec![vec![]], ..stage(7) }.into(),
        ConfirmRoots { cluster: parsed("phx"), revision: Revision(u64::MAX) }.into(),
        Revoke { ends_at: NOW, ..revoke("web") }.into(),
        Revoke { subjects: [].into(), ..revoke("web") }.into(),
    ]
}

fn twice_declared() -> CreateToken {
    let mut token = token(9, "web", "web.shop", "");
    if let TokenKind::Workload { services, .. } = &mut token.kind {
        services.push(services[0].clone());
    }
    token
}

fn for_identity(id: &str) -> CreateToken {
    CreateToken {
        kind: TokenKind::Workload { identity: parsed(id), services: vec![] },
        ..token(9, "x", "x.x", "")
    }
}

/// Commands that [`furnished`] refuses, with the reason.
fn refused() -> Vec<(&'static str, CommandBody)> {
    let as_gateway = UseToken { id: token_id(1), user: TokenUser::Gateway(NodeId(3)) };
    let as_workload = use_token(4);
    let same_domain = ClusterFacts { trust_domain: parsed("phx.mesh"), ..facts("lhr", 3) };
    let own_domain = ClusterFacts { trust_domain: parsed("iad.mesh"), ..facts("lhr", 3) };
    let renamed = ClusterFacts { name: parsed("lhr"), ..facts("phx", 2) };
    let named = |name: &str| ClusterFacts { name: parsed(name), ..facts("lhr", 3) };
    let foreign = Revoke {
        subjects: [RevokedSubject::Identity(parsed("spiffe://phx.mesh/ns/shop/sa/web"))].into(),
        ..revoke("web")
    };
    vec![
        ("already-initialised", init().into()),
        ("gateway-exists", AddGateway { facts: forwarder(1) }.into()),
        ("gateway-unknown", UpdateGateway { facts: gateway(3) }.into()),
        ("gateway-unknown", remove_gateway(3).into()),
        ("gateway-last", remove_gateway(1).into()),
        ("gateway-role-fixed", UpdateGateway { facts: gateway(2) }.into()),
        ("token-exists", token(1, "web", "new.shop", "").into()),
        ("token-unknown", use_token(9).into()),
        ("token-unknown", RevokeToken { id: token_id(9) }.into()),
        ("token-wrong-kind", as_gateway.into()),
        ("token-wrong-kind", as_workload.into()),
        ("identity-foreign", for_identity("spiffe://phx.mesh/ns/shop/sa/web").into()),
        (
            "identity-not-a-workload",
            for_identity("spiffe://iad.mesh/causeway/gateway/0000000000000001").into(),
        ),
        ("identity-not-a-workload", for_identity("spiffe://iad.mesh/other").into()),
        ("service-unknown", declare("none.shop", "80").into()),
        ("service-unknown", RemoveService { name: parsed("none.shop") }.into()),
        ("service-unknown", export("none.shop", 1, ExportTo::All).into()),
        ("service-exported", RemoveService { name: parsed("web.shop") }.into()),
        ("ports-differ", declare("web.shop", "80/tcp").into()),
        ("ports-differ", declare("web.shop", "80/http,81").into()),
        ("ports-differ", token(9, "web", "web.shop", "81").into()),
        ("export-to-self", export("web.shop", 1, clusters(&["iad", "phx"])).into()),
        ("not-exported", unexport("bare.shop", None).into()),
        ("not-exported", unexport("none.shop", None).into()),
        ("not-exported", unexport("web.shop", Some(&["lhr"])).into()),
        ("exported-to-all", unexport("pay.shop", Some(&["phx"])).into()),
        ("handle-clash", export("bare.shop", 100, ExportTo::All).into()),
        ("invite-exists", invite(1, None).into()),
        ("invite-unknown", RevokeInvite { id: invite_id(9) }.into()),
        ("invite-unknown", link(Some(9), facts("lhr", 3)).into()),
        ("invite-used", link(Some(1), facts("phx", 2)).into()),
        ("invite-used", RevokeInvite { id: invite_id(1) }.into()),
        ("invite-for-another", link(Some(2), facts("fra", 4)).into()),
        ("link-unknown", update_peer("lhr", 1).into()),
        ("link-unknown", RemoveLink { cluster: parsed("lhr") }.into()),
        ("link-id-clash", link(None, facts("lhr", 1)).into()),
        ("link-id-clash", link(Some(2), facts("lhr", 2)).into()),
        ("link-trust-domain-clash", link(None, facts("iad", 1)).into()),
        ("link-trust-domain-clash", link(None, own_domain).into()),
        ("link-trust-domain-clash", link(Some(2), same_domain).into()),
        ("link-trust-domain-clash", link(None, renamed).into()),
        ("link-trust-domain-clash", link(None, facts("phx", 3)).into()),
        ("link-name-clash", link(None, named("iad")).into()),
        ("link-name-clash", link(None, named("phx")).into()),
        ("link-peer-stale", update_peer("phx", 5).into()),
        ("link-peer-stale", update_peer("phx", 4).into()),
        ("epoch-not-newer", rotate(Some(1), None).into()),
        ("epoch-not-newer", rotate(Some(2), Some(0)).into()),
        ("epoch-clash", rotate(Some(17), None).into()),
        ("epoch-unknown", drop_keys(&[2], &[]).into()),
        ("epoch-newest", drop_keys(&[], &[1]).into()),
        ("gateway-unknown", drain(3, true).into()),
        ("link-unknown", PauseLink { cluster: parsed("lhr"), paused: true }.into()),
        ("link-unknown", policy("lhr").into()),
        ("link-unknown", ConfirmRoots { cluster: parsed("lhr"), revision: Revision(1) }.into()),
        ("root-not-staged", ActivateRoot { root_der: vec![8] }.into()),
        ("root-unknown", DropRoot { root_der: vec![8] }.into()),
        ("root-active", DropRoot { root_der: init().root_der }.into()),
        ("identity-foreign", foreign.into()),
        ("not-revoked", Reinstate { subject: RevokedSubject::Key([1; 32]) }.into()),
        ("limit-reached", AddGateway { facts: crowded() }.into()),
        (
            "gateway-last-in-use",
            DrainGateway { ready: [NodeId(1), NodeId(9)].into(), ..drain(1, true) }.into(),
        ),
        ("trust-too-large", UpdateLinkPeer { revoked: long(900), ..update_peer("phx", 6) }.into()),
        (
            "trust-too-large",
            Revoke { subjects: long(900).into_iter().map(|one| one.subject).collect(), ..revoke("web") }
                .into(),
        ),
        ("resource-changed", unchanged(Witness::Export(None), unexport("web.shop", None))),
        ("resource-changed", unchanged(Witness::Service(None), unexport("web.shop", None))),
        ("resource-changed", unchanged(Witness::Service(Some(ports("80"))), declare("web.shop", "80/http"))),
        (
            "resource-changed",
            unchanged(Witness::Link(None), PauseLink { cluster: parsed("phx"), paused: true }),
        ),
        ("service-unknown", unchanged(Witness::Service(None), declare("none.shop", "80"))),
    ]
}

fn unchanged(was: Witness, change: impl Into<Change>) -> CommandBody {
    ChangeIf { was, change: change.into() }.into()
}

/// Revocations of long names.
fn long(count: usize) -> Vec<Revocation> {
    let name = |n| parsed(&format!("spiffe://iad.mesh/ns/shop/sa/{n}/{}", vec!["a".repeat(60); 5].join("/")));
    let subject = |n| RevokedSubject::Identity(name(n));
    (0..count).map(|n| Revocation { subject: subject(n), issued_before: NOW }).collect()
}

fn crowded() -> GatewayFacts {
    GatewayFacts { cluster_addrs: vec![parsed("10.0.0.1:7443"); 17], ..gateway(3) }
}

/// Refusals that need a time, an order or a query of their own.
fn special() -> Vec<Refusal> {
    let mut r = furnished();
    let mut all = vec![Replica::empty().refuse(use_token(1))];
    let asked = r.catalog.revision();
    let again = Command { at: NOW, by: "test".into(), body: use_token(1).into() };
    let before = r.catalog.clone();
    let applied = r.catalog.apply(asked, &again);
    assert_eq!((applied.events, &before), (vec![], &r.catalog), "a replay changed something");
    all.push(applied.outcome.unwrap_err());
    all.push(r.catalog.may_serve(&identity("web"), &parsed("pay.shop")).unwrap_err());
    r.ok(use_token_by(1, 1));
    r.ok(use_token_by(1, 2));
    all.push(r.refuse(use_token_by(1, 3)));
    r.ok(RevokeToken { id: token_id(2) });
    all.push(r.refuse(use_token(2)));
    r.ok(RevokeInvite { id: invite_id(2) });
    all.push(r.refuse(link(Some(2), facts("lhr", 3))));
    r.ok(stage(7));
    all.push(r.refuse(stage(8)));
    r.ok(remove_gateway(2));
    all.push(r.refuse(AddGateway { facts: gateway(2) }));
    r.at = NOW + 60;
    all.push(r.refuse(use_token(3)));
    all.push(r.refuse(link(Some(3), facts("lhr", 3))));
    all
}

#[test]
fn every_refusal_has_its_reason_and_changes_nothing() {
    let mut r = furnished();
    let mut seen = Vec::new();
    for (reason, body) in refused() {
        let refusal = r.refuse(body.clone());
        assert_eq!(refusal.reason(), reason, "{body:?}: {refusal}");
        seen.push(refusal);
    }
    for body in invalid_values() {
        let refusal = r.refuse(body.clone());
        assert_eq!(refusal.reason(), "invalid-value", "{body:?}: {refusal}");
        seen.push(refusal);
    }
    seen.extend(special());
    // that takes 1,000,000 names: the table of addresses is tested with fewer
    seen.push(Refusal::VipExhausted { name: parsed("web.shop") });
    let reasons: BTreeSet<&str> = seen.iter().map(Refusal::reason).collect();
    assert_eq!(reasons, Refusal::REASONS.iter().copied().collect(), "a refusal without a test");
    for refusal in seen {
        let text = refusal.to_string();
        assert!(!text.ends_with('.') && text.contains(':'), "{text}");
        assert!(!text.contains("  ") && text.starts_with(|c: char| c.is_lowercase()), "{text}");
        let json = serde_json::to_string(&refusal).unwrap();
        assert_eq!(serde_json::from_str::<Refusal>(&json).unwrap(), refusal);
    }
}

#[test]
fn no_command_but_the_first_works_without_a_cluster() {
    for body in refused().into_iter().map(|(_, body)| body).chain(invalid_values()) {
        if !matches!(body, CommandBody::InitCluster(_)) {
            assert_eq!(Replica::empty().refuse(body), Refusal::NotInitialised);
        }
    }
}

#[test]
fn a_cluster_starts_only_with_sound_values() {
    let bad = [
        InitCluster { root_der: vec![], ..init() },
        InitCluster { sealed_ca: vec![], ..init() },
        InitCluster { sealed_ca: vec![0; 65 * 1024], ..init() },
        InitCluster { gateway: forwarder(1), ..init() },
        InitCluster { gateway: gateway(0), ..init() },
    ];
    for body in bad {
        assert_eq!(Replica::empty().refuse(body).reason(), "invalid-value");
    }
}

#[test]
fn an_actor_that_is_too_long_is_refused_and_cut_in_the_audit() {
    let mut catalog = Catalog::new();
    for by in [String::new(), "ä".repeat(129)] {
        let revision = Revision(catalog.revision().0 + 1);
        let applied = catalog.apply(revision, &Command { at: NOW, by, body: init().into() });
        assert_eq!(applied.outcome.unwrap_err().reason(), "invalid-value");
    }
    assert_eq!(catalog.audit().last().unwrap().by.len(), MAX_ACTOR_LEN);
    assert!(catalog.cluster().is_none());
}

#[test]
fn numbers_and_names_of_commands_are_stable() {
    let first = [(1, CommandBody::from(init())), (6, use_token(1).into()), (18, drop_keys(&[], &[]).into())];
    for (number, body) in first {
        assert_eq!(body.number(), number);
    }
    assert_eq!(CommandBody::KNOWN, (1..=29).collect::<Vec<u16>>());
    let names: BTreeSet<&str> = refused().iter().map(|(_, body)| body.name()).collect();
    assert!(names.contains("establish-link") && names.contains("use-token"), "{names:?}");
}
