//! What commands do, from a cluster's start on.

use super::fixture::*;
use crate::*;
use causeway_model::*;
use std::collections::BTreeSet;

#[test]
fn a_cluster_starts_with_its_facts_keys_and_first_gateway() {
    let mut r = Replica::empty();
    let (_, events) = r.effect(init());
    assert_eq!(events, [Event::ClusterChanged, Event::GatewaysChanged, Event::KeysChanged]);
    let cluster = r.catalog.cluster().unwrap();
    assert_eq!((&cluster.facts, cluster.created_at), (&facts("iad", 1), NOW));
    assert_eq!(cluster.ca.active_root_der(), Some(&[1][..]));
    assert_eq!(cluster.newest_cid_key(), Some((Epoch(1), CidKey([1; 16]))));
    assert_eq!(r.catalog.gateways().collect::<Vec<_>>(), [&gateway(1)]);
}

#[test]
fn gateways_come_change_and_go() {
    let mut r = Replica::new();
    assert_eq!(r.effect(AddGateway { facts: gateway(2) }).1, [Event::GatewaysChanged]);
    assert_eq!(r.effect(AddGateway { facts: gateway(2) }).1, []);
    let moved = GatewayFacts { cluster_addrs: vec![parsed("10.9.9.9:1")], ..gateway(2) };
    assert_eq!(r.effect(UpdateGateway { facts: moved.clone() }).1, [Event::GatewaysChanged]);
    assert_eq!(r.effect(UpdateGateway { facts: moved.clone() }).1, []);
    assert_eq!(r.catalog.gateway(NodeId(2)), Some(&moved));
    r.ok(remove_gateway(1));
    r.ok(AddGateway { facts: forwarder(3) });
    assert_eq!(r.refuse(remove_gateway(2)).reason(), "gateway-last");
    r.ok(remove_gateway(3));
}

#[test]
fn a_token_declares_services_and_who_may_serve_them() {
    let mut r = Replica::new();
    let (_, events) = r.effect(token(1, "web", "web.shop", ""));
    assert_eq!(events, [Event::TokensChanged, Event::ServiceChanged(parsed("web.shop"))]);
    assert!(r.catalog.may_serve(&identity("web"), &parsed("web.shop")).is_ok());
    assert_eq!(
        r.catalog.may_serve(&identity("web"), &parsed("no.shop")).unwrap_err().reason(),
        "service-unknown"
    );
    r.ok(token(2, "web2", "web.shop", "80/http"));
    assert_eq!(r.effect(token(3, "web2", "web.shop", "80/http")).1, [Event::TokensChanged]);
    let service = r.catalog.service(&parsed("web.shop")).unwrap();
    assert_eq!((service.ports.to_string(), service.changed), ("80/http".into(), Revision(3)));
    assert_eq!(service.identities, [identity("web"), identity("web2")].into());
    r.ok(token(4, "web", "api.shop", "81"));
    let served: Vec<String> = r.catalog.services_of(&identity("web")).map(|s| s.name.to_string()).collect();
    assert_eq!(served, ["api.shop", "web.shop"]);
    r.ok(RemoveService { name: parsed("web.shop") });
    assert_eq!(r.catalog.services_of(&identity("web")).count(), 1);
    assert_eq!(r.catalog.services_of(&identity("web2")).count(), 0);
}

#[test]
fn a_token_is_used_up_and_purged_a_while_after_it_expires() {
    let mut r = Replica::new();
    let created = token(1, "web", "web.shop", "");
    r.ok(created.clone());
    r.at = NOW + 59;
    assert_eq!(r.ok(use_token(1)), Outcome::Token { kind: created.kind.clone() });
    assert_eq!(r.catalog.token(token_id(1)).unwrap().uses_left, 1);
    r.at = NOW + 60 + TOMBSTONE_SECS - 1;
    assert_eq!(r.refuse(use_token(1)).reason(), "token-expired");
    r.at += 1;
    let applied = r.apply(use_token(1));
    assert_eq!(applied.outcome.unwrap_err().reason(), "token-unknown");
    assert_eq!(applied.events, [Event::TokensChanged]);
    assert_eq!((r.catalog.tokens().len(), r.catalog.purge_at), (0, u64::MAX));
    r.ok(CreateToken { expires_at: u64::MAX, ..created });
    r.at = u64::MAX - 1;
    r.ok(use_token(1));
}

#[test]
fn a_use_that_is_repeated_spends_nothing_more() {
    let mut r = Replica::new();
    r.ok(CreateToken { uses: 1, ..token(1, "web", "web.shop", "") });
    let left = |r: &Replica| r.catalog.token(token_id(1)).unwrap().uses_left;
    let (first, events) = r.effect(use_token_by(1, 7));
    assert_eq!((events, left(&r)), (vec![Event::TokensChanged], 0));
    let user = |workload| use_token_by(1, workload).user;
    assert!(r.catalog.used_by(token_id(1), user(7)) && !r.catalog.used_by(token_id(1), user(8)));
    assert!(!r.catalog.used_by(token_id(2), user(7)));
    let spent = r.catalog.token(token_id(1)).unwrap();
    assert_eq!(spent.check_for(user(7), NOW).unwrap_err().reason(), "token-used-up");
    assert_eq!(spent.check_again(user(7), NOW), Ok(()));
    assert_eq!(r.effect(use_token_by(1, 7)), (first, vec![]));
    assert_eq!(r.refuse(use_token_by(1, 8)).reason(), "token-used-up");
    // of a token with uses left nothing is spent either
    r.ok(token(2, "web", "web.shop", ""));
    r.ok(use_token_by(2, 7));
    r.ok(use_token_by(2, 7));
    r.ok(use_token_by(2, 8));
    assert_eq!(r.refuse(use_token_by(2, 9)).reason(), "token-used-up");
    // a token that is dead is so for everybody
    r.ok(RevokeToken { id: token_id(2) });
    assert_eq!(r.refuse(use_token_by(2, 7)).reason(), "token-revoked");
    r.at = NOW + 60;
    assert_eq!(r.refuse(use_token_by(1, 7)).reason(), "token-expired");
}

#[test]
fn a_token_of_the_same_number_is_another_one() {
    let mut r = Replica::new();
    let created = CreateToken { uses: 1, ..token(1, "web", "web.shop", "") };
    r.ok(created.clone());
    r.ok(use_token_by(1, 7));
    r.at = created.expires_at + TOMBSTONE_SECS;
    r.ok(CreateToken { expires_at: r.at + 60, ..created });
    r.ok(use_token_by(1, 7));
    assert_eq!(r.catalog.token(token_id(1)).unwrap().uses_left, 0);
}

#[test]
fn a_purge_and_a_change_of_tokens_are_one_event() {
    let mut r = Replica::new();
    r.ok(invite(1, None));
    r.at = NOW + 60 + TOMBSTONE_SECS;
    let (_, events) = r.effect(CreateToken { expires_at: u64::MAX, ..gateway_token(1) });
    assert_eq!((events, r.catalog.invites().len()), (vec![Event::TokensChanged], 0));
}

#[test]
fn revoking_twice_changes_nothing_more() {
    let mut r = Replica::new();
    r.ok(gateway_token(1));
    r.ok(invite(1, None));
    assert_eq!(r.effect(RevokeToken { id: token_id(1) }).1, [Event::TokensChanged]);
    assert_eq!(r.effect(RevokeToken { id: token_id(1) }).1, []);
    assert_eq!(r.effect(RevokeInvite { id: invite_id(1) }).1, [Event::TokensChanged]);
    assert_eq!(r.effect(RevokeInvite { id: invite_id(1) }).1, []);
}

#[test]
fn ports_are_declared_once() {
    let mut r = Replica::new();
    r.ok(token(1, "web", "web.shop", ""));
    assert_eq!(r.effect(declare("web.shop", "80/http")).1, [Event::ServiceChanged(parsed("web.shop"))]);
    assert_eq!(r.effect(declare("web.shop", "80/http")).1, []);
    assert_eq!(
        r.refuse(declare("web.shop", "81")),
        Refusal::PortsDiffer { service: parsed("web.shop"), declared: ports("80/http"), asked: ports("81") }
    );
}

#[test]
fn an_export_keeps_its_handle_and_gathers_clusters() {
    let mut r = Replica::new();
    r.ok(token(1, "web", "web.shop", ""));
    r.ok(link(None, facts("phx", 2)));
    let answer = |handle, unlinked: &[&str]| Outcome::Exported {
        handle: ServiceHandle(handle),
        unlinked: unlinked.iter().map(|name| parsed(name)).collect(),
    };
    assert_eq!(r.ok(export("web.shop", 1, clusters(&["lhr", "phx"]))), answer(1, &["lhr"]));
    assert_eq!(r.ok(export("web.shop", 2, clusters(&["fra"]))), answer(1, &["fra"]));
    assert_eq!(r.effect(export("web.shop", 3, clusters(&["phx"]))).1, []);
    assert_eq!(r.catalog.export_of(&parsed("web.shop")).unwrap().to, clusters(&["fra", "lhr", "phx"]));
    assert_eq!(r.catalog.export_domains(&parsed("web.shop")), BTreeSet::from([parsed("phx.mesh")]));
    r.ok(unexport("web.shop", Some(&["lhr", "xyz"])));
    assert_eq!(r.catalog.exports_to(&parsed("lhr")).count(), 0);
    assert_eq!(r.ok(export("web.shop", 4, ExportTo::All)), answer(1, &[]));
    assert_eq!(r.catalog.exports_to(&parsed("lhr")).count(), 1);
    r.ok(export("web.shop", 5, clusters(&["phx"])));
    assert_eq!(r.catalog.service_by_handle(ServiceHandle(1)).unwrap().to, clusters(&["phx"]));
    let gone = r.effect(unexport("web.shop", Some(&["phx"]))).1;
    assert_eq!(gone, [Event::ExportChanged(parsed("web.shop"))]);
    assert!(r.catalog.service_by_handle(ServiceHandle(1)).is_none());
    assert_eq!(r.ok(export("web.shop", 6, ExportTo::All)), answer(6, &[]));
    r.ok(unexport("web.shop", None));
    r.ok(RemoveService { name: parsed("web.shop") });
    assert_eq!((r.catalog.exports().len(), r.catalog.services().len()), (0, 0));
}

#[test]
fn a_link_consumes_its_invite_and_is_found_by_name_id_and_domain() {
    let mut r = Replica::new();
    r.ok(invite(1, Some("phx")));
    assert_eq!(r.refuse(link(Some(1), facts("lhr", 3))).reason(), "invite-for-another");
    let (outcome, events) = r.effect(link(Some(1), facts("phx", 2)));
    assert_eq!(outcome, Outcome::Link { replaced: false });
    assert_eq!(events, [Event::LinkChanged(parsed("phx")), Event::TokensChanged]);
    assert_eq!(r.catalog.invite(invite_id(1)).unwrap().state, InviteState::Used);
    let found = r.catalog.link(&parsed("phx"));
    assert!(found.is_some_and(|link| link.gateways.contains_key(&NodeId(5))));
    assert_eq!(r.catalog.link_by_domain(&parsed("phx.mesh")), found);
    assert_eq!(r.catalog.link_by_id(ClusterId::new(2).unwrap()), found);
    assert_eq!(r.catalog.link_by_id(ClusterId::new(1).unwrap()), None);
    assert_eq!(r.effect(RemoveLink { cluster: parsed("phx") }).1, [Event::LinkRemoved(parsed("phx"))]);
    assert_eq!(r.catalog.links().len(), 0);
}

#[test]
fn a_refused_link_leaves_its_invite_open() {
    let mut r = Replica::new();
    r.ok(invite(1, None));
    r.refuse(link(Some(1), facts("lhr", 1)));
    r.ok(link(Some(1), facts("lhr", 3)));
}

#[test]
fn a_link_made_again_replaces_the_old_one() {
    let mut r = Replica::new();
    r.ok(link(None, facts("phx", 2)));
    r.ok(update_peer("phx", 9));
    r.ok(invite(1, None));
    let again = EstablishLink { key: [4; 32].into(), roots: vec![vec![8]], ..link(Some(1), facts("phx", 2)) };
    assert_eq!(r.ok(again), Outcome::Link { replaced: true });
    let found = r.catalog.link(&parsed("phx")).unwrap();
    assert_eq!(
        (found.key, found.peer_revision, found.roots.as_slice()),
        (LinkKey([4; 32]), Revision(0), &[vec![8]][..])
    );
    assert_eq!(found.established, r.catalog.revision());
}

#[test]
fn what_a_peer_says_of_itself_only_grows_newer() {
    let mut r = Replica::new();
    r.ok(link(None, facts("phx", 2)));
    assert_eq!(r.effect(update_peer("phx", 3)).1, [Event::LinkChanged(parsed("phx"))]);
    assert_eq!(r.effect(update_peer("phx", 4)).1, []);
    assert_eq!(r.refuse(update_peer("phx", 3)).reason(), "link-peer-stale");
    let found = r.catalog.link(&parsed("phx")).unwrap();
    assert_eq!((found.gateways.len(), found.roots.len(), found.peer_revision), (2, 2, Revision(4)));
}

#[test]
fn keys_rotate_each_in_its_own_epochs() {
    let mut r = Replica::new();
    assert_eq!(r.effect(rotate(Some(2), None)).1, [Event::KeysChanged]);
    assert_eq!(r.refuse(drop_keys(&[1], &[1])).reason(), "epoch-newest");
    assert_eq!(r.effect(drop_keys(&[1], &[])).1, [Event::KeysChanged]);
    r.ok(rotate(Some(17), Some(16)));
    let cluster = r.catalog.cluster().unwrap();
    assert_eq!(cluster.cid_keys.keys().copied().collect::<Vec<_>>(), [Epoch(2), Epoch(17)]);
    assert_eq!(cluster.newest_probe_key().unwrap().0, Epoch(16));
}

#[test]
fn a_merge_rule_names_namespaces() {
    let (shop, bank): (Label, Label) = (parsed("shop"), parsed("bank"));
    let only = MergeRule::Only([shop.clone()].into());
    let rows = [(MergeRule::None, false, false), (MergeRule::All, true, true), (only, true, false)];
    for (rule, in_shop, in_bank) in rows {
        assert_eq!((rule.merges(&shop), rule.merges(&bank)), (in_shop, in_bank), "{rule:?}");
    }
}

#[test]
fn keys_and_verifiers_do_not_show_in_logs() {
    let mut r = Replica::new();
    let secret = EstablishLink { key: [171; 32].into(), ..link(None, facts("phx", 2)) };
    let shown = format!("{secret:?}");
    r.ok(secret);
    for text in [shown, format!("{:?}", r.catalog)] {
        assert!(text.contains("LinkKey(****)") && !text.contains("171"), "{text}");
    }
}

#[test]
fn the_audit_says_who_asked_for_what() {
    let mut r = Replica::new();
    r.refuse(use_token(1));
    let entry = r.catalog.audit().last().unwrap();
    assert_eq!((entry.by.as_str(), entry.command.as_str(), entry.at), ("test", "use-token", NOW));
    assert_eq!(entry.subject, "0000000000000001 by workload 0000000000000007");
    assert_eq!(entry.refused, Some(Refusal::TokenUnknown { id: token_id(1) }));
}
