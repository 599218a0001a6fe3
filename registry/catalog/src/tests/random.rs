//! Random sequences of commands: replicas stay equal, refusals change nothing, what is held twice agrees.

use super::fixture::*;
use crate::*;
use causeway_model::*;
use proptest::prelude::*;

const SERVICES: [&str; 3] = ["web.shop", "pay.shop", "db.bank"];
const CLUSTERS: [&str; 4] = ["iad", "phx", "lhr", "fra"];
const PORTS: [&str; 3] = ["", "80/http", "443"];

fn service() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&SERVICES[..])
}

fn cluster() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&CLUSTERS[..])
}

fn declared() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&PORTS[..])
}

fn named() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(cluster(), 0..3)
}

fn on_tokens() -> impl Strategy<Value = CommandBody> {
    let user = prop_oneof![
        4 => Just(TokenUser::Workload(WorkloadId(1))),
        1 => Just(TokenUser::Gateway(NodeId(2))),
    ];
    let created =
        (0..6_u64, prop::sample::select(&["a", "b"][..]), service(), declared(), 0..3_u32, 0..9_000_u64);
    prop_oneof![
        4 => created.prop_map(|(n, account, service, ports, uses, life)| {
            CreateToken { uses, expires_at: NOW + life, ..token(n, account, service, ports) }.into()
        }),
        1 => (0..6_u64).prop_map(|n| gateway_token(n).into()),
        4 => (0..6_u64, user).prop_map(|(n, user)| UseToken { id: token_id(n), user }.into()),
        1 => (0..6_u64).prop_map(|n| RevokeToken { id: token_id(n) }.into()),
    ]
}

fn on_services() -> impl Strategy<Value = CommandBody> {
    let to = prop_oneof![Just(ExportTo::All), named().prop_map(|names| clusters(&names))];
    prop_oneof![
        2 => (service(), declared()).prop_map(|(service, ports)| declare(service, ports).into()),
        1 => service().prop_map(|name| RemoveService { name: parsed(name) }.into()),
        3 => (service(), 0..4_u64, to).prop_map(|(service, handle, to)| export(service, handle, to).into()),
        2 => (service(), prop::option::of(named()))
            .prop_map(|(service, from)| unexport(service, from.as_deref()).into()),
    ]
}

fn on_links() -> impl Strategy<Value = CommandBody> {
    let made = (prop::option::of(0..3_u64), cluster(), 1..5_u32);
    prop_oneof![
        2 => (0..3_u64, prop::option::of(cluster()), 0..9_000_u64).prop_map(|(n, whom, life)| {
            CreateInvite { expires_at: NOW + life, ..invite(n, whom) }.into()
        }),
        1 => (0..3_u64).prop_map(|n| RevokeInvite { id: invite_id(n) }.into()),
        4 => made.prop_map(|(invite, name, id)| link(invite, facts(name, id)).into()),
        2 => (cluster(), 0..4_u64).prop_map(|(name, revision)| update_peer(name, revision).into()),
        1 => cluster().prop_map(|name| RemoveLink { cluster: parsed(name) }.into()),
        1 => (cluster(), any::<bool>())
            .prop_map(|(name, paused)| PauseLink { cluster: parsed(name), paused }.into()),
        1 => (cluster(), any::<bool>())
            .prop_map(|(name, transit)| SetLinkPolicy { transit, ..policy(name) }.into()),
        1 => (cluster(), 0..9_u64).prop_map(|(name, revision)| {
            ConfirmRoots { cluster: parsed(name), revision: Revision(revision) }.into()
        }),
    ]
}

fn on_cluster() -> impl Strategy<Value = CommandBody> {
    let epoch = || prop::option::of(0..40_u64);
    let epochs = || prop::collection::vec(0..40_u64, 0..3);
    prop_oneof![
        1 => Just(init().into()),
        2 => (0..5_u64).prop_map(|node| AddGateway { facts: gateway(node) }.into()),
        1 => (0..5_u64).prop_map(|node| UpdateGateway { facts: forwarder(node) }.into()),
        2 => (0..5_u64).prop_map(|node| remove_gateway(node).into()),
        3 => (epoch(), epoch()).prop_map(|(cid, probe)| rotate(cid, probe).into()),
        2 => (epochs(), epochs()).prop_map(|(cid, probe)| drop_keys(&cid, &probe).into()),
        1 => (0..5_u64, any::<bool>())
            .prop_map(|(node, draining)| drain(node, draining).into()),
        2 => (0..4_u8).prop_map(|n| stage(n).into()),
        2 => (0..4_u8).prop_map(|n| ActivateRoot { root_der: vec![n] }.into()),
        2 => (0..4_u8).prop_map(|n| DropRoot { root_der: vec![n] }.into()),
        2 => prop::sample::select(&["a", "b"][..]).prop_map(|account| revoke(account).into()),
        1 => prop::sample::select(&["a", "b"][..])
            .prop_map(|account| Reinstate { subject: RevokedSubject::Identity(identity(account)) }.into()),
    ]
}

fn on_vips() -> impl Strategy<Value = CommandBody> {
    let name = (service(), prop::option::of(cluster()));
    prop::collection::vec(name, 0..4).prop_map(|names| {
        let name = |(service, cluster): (&str, Option<&str>)| VipName {
            service: parsed(service),
            cluster: cluster.map(parsed),
        };
        AllocateVips { names: names.into_iter().map(name).collect() }.into()
    })
}

/// Commands with the time that passes before each.
fn history() -> impl Strategy<Value = Vec<(u64, CommandBody)>> {
    let body =
        prop_oneof![3 => on_tokens(), 3 => on_services(), 3 => on_links(), 1 => on_cluster(), 1 => on_vips()];
    prop::collection::vec((0..400_u64, body), 0..120)
}

/// What the catalog holds in two places, or promises to hold at most once.
fn check_consistent(catalog: &Catalog) {
    for service in catalog.services() {
        for identity in &service.identities {
            assert!(catalog.services_of(identity).any(|served| served.name == service.name));
        }
    }
    let pairs: usize = catalog.services().map(|service| service.identities.len()).sum();
    assert_eq!(pairs, catalog.by_identity.values().map(std::collections::BTreeSet::len).sum::<usize>());
    assert!(catalog.by_identity.values().all(|served| !served.is_empty()));
    assert_eq!(catalog.by_handle.len(), catalog.exports().len());
    for export in catalog.exports() {
        assert_eq!(catalog.service_by_handle(export.handle), Some(export));
        assert!(catalog.service(&export.service).is_some());
        assert_ne!(export.to, clusters(&[]));
    }
    for link in catalog.links() {
        assert_eq!(catalog.link_by_domain(&link.peer.trust_domain), Some(link));
        assert_eq!(catalog.link_by_id(link.peer.id), Some(link));
        assert_ne!(link.peer.id, catalog.cluster().unwrap().facts.id);
    }
    let all = SERVICES.into_iter().flat_map(|service| {
        let pinned = CLUSTERS.into_iter().map(move |cluster| format!("{service}@{cluster}"));
        pinned.chain([service.to_owned()])
    });
    let named: Vec<(VipName, Vip)> = all
        .filter_map(|name| {
            let name: VipName = parsed(&name);
            catalog.vip(&name).map(|vip| (name, vip))
        })
        .collect();
    assert_eq!(named.len(), catalog.vips());
    assert!(named.into_iter().all(|(name, vip)| catalog.vip_name(vip) == Some(name)));
    if let Some(cluster) = catalog.cluster() {
        let ca = &cluster.ca;
        assert!(ca.active_root < ca.roots.len());
        assert!(ca.staged.as_ref().is_none_or(|staged| ca.roots.contains(&staged.root_der)));
        assert!(ca.roots_changed <= catalog.own_trust_revision());
        assert!(catalog.own_trust_revision() <= catalog.trust_revision());
    }
    assert!(catalog.draining.iter().all(|node| catalog.gateway(*node).is_some()));
    assert!(catalog.removed.keys().all(|node| catalog.gateway(*node).is_none()));
    assert!(catalog.revoked().all(|revoked| catalog.purge_at <= revoked.ends_at));
    assert!(catalog.tokens().all(|token| catalog.purge_at <= token.expires_at + TOMBSTONE_SECS));
    assert!(catalog.invites().all(|invite| catalog.purge_at <= invite.expires_at + TOMBSTONE_SECS));
}

/// The state that events tell of, as a list per kind, to see that no change goes untold.
fn told(before: &Catalog, after: &Catalog, events: &[Event]) {
    let has = |event: Event| events.contains(&event);
    let gateways = before.gateways != after.gateways || before.draining != after.draining;
    assert_eq!(gateways, has(Event::GatewaysChanged));
    let trusted = |c: &Catalog| (c.revoked.clone(), c.cluster.as_ref().map(|cluster| cluster.ca.clone()));
    assert_eq!(trusted(before) != trusted(after), has(Event::ClusterChanged));
    if before.revoked != after.revoked || before.links.len() != after.links.len() {
        assert!(after.trust_revision() > before.trust_revision());
    }
    let own = |c: &Catalog| (c.revoked.clone(), c.cluster.as_ref().map(|cluster| cluster.ca.roots_changed));
    assert_eq!(own(before) != own(after), after.own_trust_revision() > before.own_trust_revision());
    assert_eq!(before.tokens != after.tokens || before.invites != after.invites, has(Event::TokensChanged));
    for name in SERVICES.map(parsed::<ServiceName>) {
        let (old, new) = (before.service(&name), after.service(&name));
        assert_eq!(old != new && new.is_some(), has(Event::ServiceChanged(name.clone())));
        assert_eq!(old.is_some() && new.is_none(), has(Event::ServiceRemoved(name.clone())));
        assert_eq!(before.export_of(&name) != after.export_of(&name), has(Event::ExportChanged(name)));
    }
    for name in CLUSTERS.map(parsed::<ClusterName>) {
        let seen = |catalog: &Catalog| {
            catalog.link(&name).cloned().map(|link| Link { peer_revision: Revision(0), ..link })
        };
        let (old, new) = (seen(before), seen(after));
        assert_eq!(old != new && new.is_some(), has(Event::LinkChanged(name.clone())));
        assert_eq!(old.is_some() && new.is_none(), has(Event::LinkRemoved(name.clone())));
    }
    let keys =
        |catalog: &Catalog| catalog.cluster.as_ref().map(|c| (c.cid_keys.clone(), c.probe_keys.clone()));
    assert_eq!(keys(before) != keys(after), has(Event::KeysChanged));
    assert_eq!(before.vips != after.vips, has(Event::VipsAllocated));
}

/// A copy by way of serde. The store's golden files try the format that is stored, which does not describe itself.
fn copied<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    serde_json::from_slice(&serde_json::to_vec(value).unwrap()).unwrap()
}

proptest! {
    #[test]
    fn replicas_stay_equal_and_nothing_goes_untold(history in history()) {
        let mut one = Replica::new();
        let mut two = one.clone();
        for (passed, body) in history {
            one.at += passed;
            two.at += passed;
            let before = one.catalog.clone();
            let applied = one.apply(body.clone());
            prop_assert_eq!(&applied, &two.apply(body));
            if applied.outcome.is_err() && applied.events.is_empty() {
                prop_assert!(same_but_audit(&before, &one.catalog));
            }
            told(&before, &one.catalog, &applied.events);
            check_consistent(&one.catalog);
        }
        prop_assert_eq!(one.catalog, two.catalog);
    }

    #[test]
    fn a_stored_catalog_goes_on_where_it_was(history in history(), cut in 0..120_usize) {
        let mut one = Replica::new();
        let mut two = one.clone();
        for (i, (passed, body)) in history.into_iter().enumerate() {
            if i == cut {
                two.catalog = copied(&two.catalog);
            }
            one.at += passed;
            two.at += passed;
            let copy = copied(&body);
            let applied = one.apply(body);
            prop_assert_eq!(&copied(&applied), &two.apply(copy));
        }
        prop_assert_eq!(one.catalog, two.catalog);
    }
}
