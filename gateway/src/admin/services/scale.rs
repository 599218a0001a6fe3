//! Pages and lists of as many services as a gateway may have: 100,000 of linked clusters beside those of its own.

use super::filter::Filter;
use super::page::{Page, page};
use crate::admin::api::{ServicePage, ServiceQuery, SortBy};
use crate::hub::fixture::Fixture;
use crate::hub::{Hub, names_from};
use causeway_catalog::{
    Catalog, Command, CreateToken, EstablishLink, MergeRule, RemoveService, ServiceDeclaration, TokenId,
    TokenKind,
};
use causeway_identity::ClusterCa;
use causeway_model::{
    ClusterFacts, ClusterId, Epoch, GatewayFacts, GatewayRole, Locality, NodeId, PortSet, Revision,
    ServiceHandle, ServiceName,
};
use causeway_wire::link::{Exports, MAX_EXPORTS_PER_FRAME, SnapshotPart};
use causeway_wire::view::ExportSummary;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::{Duration, Instant, SystemTime};

const CLUSTERS: u32 = 10;
const IMPORTS: usize = 10_000;
/// As many as one token declares.
const LOCAL: usize = 32;
/// What a page of 100 may take in a release build, in microseconds; a build for tests gets ten times that.
const PAGE_US: u64 = 10_000;

fn name(namespace: &str, index: usize) -> ServiceName {
    format!("s{index:06}.{namespace}").parse().unwrap()
}

fn facts(number: u32) -> ClusterFacts {
    ClusterFacts {
        name: format!("c{number}").parse().unwrap(),
        id: ClusterId::new(1000 + number).unwrap(),
        trust_domain: format!("c{number}.mesh").parse().unwrap(),
        locality: Locality { region: format!("region-{}", number % 2), zone: "AD-1".into() },
    }
}

/// Links with a cluster.
async fn link(hub: &Hub, peer: &ClusterFacts) {
    let ca = ClusterCa::create(&peer.trust_domain, SystemTime::now()).unwrap();
    let gateway = GatewayFacts {
        node: NodeId(7),
        role: GatewayRole::Gateway,
        locality: peer.locality.clone(),
        cluster_addrs: Vec::new(),
        link_addrs: vec!["127.0.0.1:1".parse().unwrap()],
    };
    let link = EstablishLink {
        invite: None,
        peer: peer.clone(),
        roots: vec![ca.root_der().to_vec()],
        gateways: vec![gateway],
        key: [3; 32].into(),
        merge_namespaces: MergeRule::All,
    };
    hub.propose("test", link).await.unwrap();
    let deadline = Instant::now() + crate::hub::fixture::SOON;
    while hub.with_peer(peer.id, |_| ()).is_none() {
        assert!(Instant::now() < deadline, "the link does not come up");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Takes what that cluster's gateway tells: its services are in a namespace of its own, but for one that every cluster has.
fn import(hub: &Hub, peer: &ClusterFacts) {
    let summary = |index: usize| ExportSummary {
        name: if index == 0 { name("all", 0) } else { name(peer.name.as_str(), index) },
        handle: ServiceHandle(index as u64 + 1),
        ports: vec!["80/http".parse().unwrap()].try_into().unwrap(),
        identities: vec![format!("spiffe://{}/ns/a/sa/b", peer.trust_domain).parse().unwrap()],
        healthy: u32::try_from(index % 7).unwrap(),
        total: 7,
        localities: vec![(peer.locality.clone(), 7)],
    };
    let all: Vec<ExportSummary> = (0..IMPORTS).map(summary).collect();
    let frames: Vec<&[ExportSummary]> = all.chunks(MAX_EXPORTS_PER_FRAME).collect();
    hub.with_peer_mut(peer.id, |known| {
        let (now, node) = (Instant::now(), NodeId(7));
        known.imports.handle_open(now, node).unwrap();
        let mut change = causeway_federation::ImportChange::default();
        for (index, upserts) in frames.iter().enumerate() {
            let part = SnapshotPart { index: u32::try_from(index).unwrap(), last: index + 1 == frames.len() };
            let frame = Exports {
                epoch: Epoch(1),
                from: Revision(0),
                to: Revision(1),
                snapshot: Some(part),
                upserts: upserts.to_vec(),
                removed: Vec::new(),
            };
            change = known.imports.handle_exports(now, node, frame).unwrap();
        }
        ((), change)
    })
    .unwrap();
}

fn token(hub: &Hub, names: Vec<ServiceName>) -> CreateToken {
    let declared = names.into_iter().map(|name| ServiceDeclaration { name, ports: PortSet::default() });
    let identity = format!("spiffe://{}/ns/a/sa/b", hub.node.cluster().trust_domain).parse().unwrap();
    CreateToken {
        id: TokenId(rand::random()),
        verifier: [1; 32].into(),
        kind: TokenKind::Workload { identity, services: declared.collect() },
        uses: 1,
        expires_at: u64::MAX,
    }
}

async fn declare(hub: &Hub, names: Vec<ServiceName>) {
    hub.propose("test", token(hub, names)).await.unwrap();
}

/// A gateway with all of them; its own are in namespaces before, between and behind those of others.
async fn filled() -> (Fixture, Vec<ServiceName>) {
    let gateway = Fixture::start().await;
    let mut all = BTreeSet::from([name("all", 0)]);
    for number in 0..CLUSTERS {
        let peer = facts(number);
        link(&gateway.hub, &peer).await;
        import(&gateway.hub, &peer);
        all.extend((1..IMPORTS).map(|index| name(peer.name.as_str(), index)));
    }
    for namespace in ["a", "c5", "z"] {
        let own: Vec<ServiceName> = (0..LOCAL).map(|index| name(namespace, index * 3 + 20_000)).collect();
        all.extend(own.iter().cloned());
        declare(&gateway.hub, own).await;
    }
    (gateway, all.into_iter().collect())
}

async fn ask(hub: &Hub, query: ServiceQuery) -> ServicePage {
    page(hub, Filter::of(&query).unwrap(), Page::of(&query).unwrap()).await.unwrap()
}

fn names(page: &ServicePage) -> Vec<ServiceName> {
    page.services.iter().map(|service| service.name.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_100000_services() {
    let (gateway, all) = filled().await;
    a_page_anywhere_looks_at_no_more_than_it_has(&gateway, &all).await;
    a_filter_that_takes_few_gives_pages_that_end(&gateway, &all).await;
    names_begin_anywhere_among_100000_services_and_100000_imports(&gateway, &all);
    gateway.stop().await;
}

async fn a_page_anywhere_looks_at_no_more_than_it_has(gateway: &Fixture, all: &[ServiceName]) {
    let mut slowest = 0;
    for index in (0..all.len()).step_by(all.len() / 20) {
        let query = ServiceQuery { after: Some(all[index].to_string()), ..ServiceQuery::default() };
        let page = ask(&gateway.hub, query).await;
        let expected: Vec<ServiceName> = all[index + 1..].iter().take(100).cloned().collect();
        assert_eq!(names(&page), expected, "after {}", all[index]);
        assert!(page.looked_at <= 101, "{} for {}", page.looked_at, page.services.len());
        slowest = slowest.max(page.took_us);
    }
    println!("a page of 100 of {}: {slowest} us at most", all.len());
    assert!(slowest < 10 * PAGE_US, "{slowest} us");

    let by_name = |name: &str| ServiceQuery { name: Some(name.into()), ..ServiceQuery::default() };
    let one = ask(&gateway.hub, by_name("s000000.all")).await;
    assert_eq!((one.services.len(), one.looked_at), (1, 1));
    assert_eq!(one.services[0].offers.len(), CLUSTERS as usize, "the services of all clusters are one");
    let few = ask(&gateway.hub, by_name("s00001*.c7")).await;
    assert_eq!((few.services.len(), few.next), (10, None));
    assert!(few.looked_at <= 12, "{}", few.looked_at);
    let none = ServiceQuery { namespace: Some("c7".into()), ..by_name("*.c8") };
    assert_eq!(ask(&gateway.hub, none).await.looked_at, 0);
}

/// Each of its own services beside as many of other clusters, one after the other.
fn names_begin_anywhere_among_100000_services_and_100000_imports(gateway: &Fixture, all: &[ServiceName]) {
    let mut all = all.to_vec();
    let mut catalog = Catalog::clone(&gateway.hub.catalog());
    let start = catalog.revision().0;
    for (number, names) in all.clone().chunks(LOCAL).take(3122).enumerate() {
        let own = |name: &ServiceName| format!("{}0.{}", name.service(), name.namespace()).parse().unwrap();
        let own: Vec<ServiceName> = names.iter().map(own).collect();
        all.extend(own.iter().cloned());
        let command = Command { at: 1, by: "test".into(), body: token(&gateway.hub, own).into() };
        let applied = catalog.apply(Revision(start + number as u64 + 1), &command);
        assert!(applied.outcome.is_ok(), "{:?}", applied.outcome);
    }
    all.sort();
    assert!(
        catalog.services().len() >= 99_900 && all.len() >= 199_900,
        "{} {}",
        catalog.services().len(),
        all.len()
    );
    let soft = gateway.hub.soft();
    let peers: Vec<_> = soft.peers.values().map(|peer| &peer.imports).collect();
    let mut slowest = Duration::ZERO;
    for index in (0..all.len()).step_by(all.len() / 20) {
        let begun = Instant::now();
        let after = names_from(&catalog, &peers, Bound::Excluded(&all[index]), 100);
        slowest = slowest.max(begun.elapsed());
        assert!(after.iter().eq(all[index + 1..].iter().take(100)), "after {}", all[index]);
        let from = names_from(&catalog, &peers, Bound::Included(&all[index]), 2);
        assert!(from.iter().eq(all[index..].iter().take(2)), "from {}", all[index]);
    }
    drop(soft);
    println!("100 names of {}: {slowest:?} at most", all.len());
    assert!(slowest < Duration::from_millis(100), "{slowest:?}");
}

async fn a_filter_that_takes_few_gives_pages_that_end(gateway: &Fixture, all: &[ServiceName]) {
    let query = |after| ServiceQuery {
        origin: Some(crate::admin::api::OfferOrigin::Local),
        after,
        ..ServiceQuery::default()
    };
    let (mut found, mut after, mut pages, mut looked_at) = (Vec::new(), None, 0, 0);
    loop {
        let page = ask(&gateway.hub, query(after)).await;
        assert!(page.looked_at <= 10_100, "{}", page.looked_at);
        found.extend(names(&page));
        (pages, looked_at, after) = (pages + 1, looked_at + page.looked_at, page.next);
        if after.is_none() {
            break;
        }
    }
    let local: Vec<ServiceName> =
        all.iter().filter(|name| gateway.hub.catalog().service(name).is_some()).cloned().collect();
    assert_eq!((found.len(), &found), (3 * LOCAL, &local));
    assert!(pages >= 10 && looked_at == all.len() as u64, "{pages} {looked_at}");

    let worst = ServiceQuery {
        sort: SortBy::Healthy,
        cluster: Some("c3".into()),
        limit: Some(10),
        ..ServiceQuery::default()
    };
    let worst = ask(&gateway.hub, worst).await;
    assert_eq!((worst.matched, worst.next), (Some(IMPORTS as u64), None));
    assert!(worst.services.iter().all(|service| service.offers.iter().all(|offer| offer.healthy == 0)));
    let everything = ServiceQuery { sort: SortBy::Stale, ..ServiceQuery::default() };
    let refused = page(&gateway.hub, Filter::of(&everything).unwrap(), Page::of(&everything).unwrap()).await;
    let refused = refused.map(|page| page.matched).unwrap_err();
    assert_eq!(refused.problem.reason, "too-many-services");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_miss_and_repeat_nothing_while_services_come_and_go() {
    let (gateway, all) = filled().await;
    let (mut seen, mut after, mut round) = (Vec::new(), None, 0);
    loop {
        let page =
            ask(&gateway.hub, ServiceQuery { limit: Some(1000), after, ..ServiceQuery::default() }).await;
        seen.extend(names(&page));
        after = page.next;
        if after.is_none() {
            break;
        }
        // one comes before and one behind where the list is, and one of those goes again
        declare(&gateway.hub, vec![name("a0", round), name("zz", round)]).await;
        if round % 2 == 1 {
            gateway.hub.propose("test", RemoveService { name: name("zz", round) }).await.unwrap();
        }
        round += 1;
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "in order, and each once");
    let stable: Vec<ServiceName> =
        seen.iter().filter(|name| all.binary_search(name).is_ok()).cloned().collect();
    assert!(stable == all, "{} of {}", stable.len(), all.len());
    let late = seen.iter().filter(|name| name.namespace().as_str() == "zz").count();
    assert_eq!(late, round.div_ceil(2), "what came ahead of the list is on it");
    gateway.stop().await;
}
