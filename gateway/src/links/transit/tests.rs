use super::*;
use crate::hub::fixture::{Fixture, SOON};
use causeway_catalog::{EstablishLink, MergeRule, PauseLink, SetLinkPolicy, StalePolicy};
use causeway_federation::transit::Route;
use causeway_transport::gateway::transit_addr;
use causeway_wire::link::TransitPath;

fn cluster(id: u32) -> ClusterId {
    ClusterId::new(id).unwrap()
}

#[test]
fn whether_a_gateway_answers_directly_is_known_with_its_time_whatever_the_others_do() {
    let transit = Transit::new(cluster(1));
    let (start, peer, other) = (Instant::now(), (cluster(2), NodeId(7)), (cluster(2), NodeId(8)));
    let at = |secs| start + Duration::from_secs(secs);
    let answers = |direct: bool| BTreeMap::from([(peer, direct), (other, !direct)]);
    assert_eq!(transit.direct_for(at(9), peer), (false, Duration::ZERO), "nobody looked yet");
    transit.observe(at(0), &answers(false));
    transit.observe(at(1), &answers(false));
    assert_eq!(transit.direct_for(at(3), peer), (false, Duration::from_secs(3)));
    assert_eq!(transit.direct_for(at(3), other), (true, Duration::from_secs(3)));
    transit.observe(at(4), &answers(true));
    assert_eq!(transit.direct_for(at(6), peer), (true, Duration::from_secs(2)));
    assert_eq!(transit.direct_for(at(6), other), (false, Duration::from_secs(2)));
    transit.observe(at(7), &BTreeMap::new());
    assert_eq!(transit.direct_for(at(9), peer), (false, Duration::ZERO));
}

#[tokio::test]
async fn a_connection_through_others_is_over_once_a_direct_one_with_that_gateway_stands() {
    let fixture = Fixture::start().await;
    let hub = &fixture.hub;
    let peer = cluster(2);
    let direct: SocketAddr = "192.0.2.1:7443".parse().unwrap();
    assert!(Roundabout::new(hub, peer, NodeId(7), direct).is_none());
    let round = Roundabout::new(hub, peer, NodeId(7), transit_addr(peer)).unwrap();
    let again = Roundabout::new(hub, peer, NodeId(7), transit_addr(peer)).unwrap();
    drop(again);
    let other = Speaking::new(hub, peer, NodeId(8), direct).unwrap();
    assert!(!round.is_over(), "another gateway of the cluster is reached directly");
    assert_eq!(hub.transit.roundabouts(peer), [NodeId(7)]);
    assert!(hub.transit.roundabouts(cluster(3)).is_empty());
    let straight = Speaking::new(hub, peer, NodeId(7), direct).unwrap();
    assert!(round.is_over() && hub.transit.roundabouts(peer).is_empty());
    drop(straight);
    assert_eq!(hub.transit.roundabouts(peer), [NodeId(7)]);
    drop((round, other));
    assert!(hub.transit.roundabouts(peer).is_empty());
    fixture.stop().await;
}

#[test]
fn a_line_of_the_log_names_a_few_however_many_ways_change() {
    let plan = |through: u32, to: std::ops::Range<u32>| {
        let route = |to: u32| {
            let path = vec![cluster(through), cluster(to)];
            (cluster(to), Route { path, nodes: BTreeSet::new() })
        };
        let mut plan = Plan { routes: to.map(route).collect(), ..Plan::default() };
        let direct = Route { path: vec![cluster(through)], nodes: BTreeSet::new() };
        plan.routes.insert(cluster(through), direct);
        plan
    };
    let (new, gone) = changes(&plan(2, 100..300), &plan(2, 200..400));
    assert_eq!((new.len(), gone.len()), (100, 100));
    assert_eq!(changes(&plan(2, 5..7), &plan(3, 5..7)), (vec![cluster(5), cluster(6)], vec![]));
    assert_eq!(changes(&plan(2, 5..7), &plan(2, 5..7)), (vec![], vec![]));
    let said = brief(&new, ToString::to_string);
    assert!(said.len() < 200 && said.ends_with("and 92 more"), "{said}");
    assert_eq!(brief(&new[..1], |_| "fra".to_owned()), "fra");
}

#[tokio::test]
async fn what_siblings_reach_is_known_while_they_say_so() {
    let fixture = Fixture::start().await;
    let hub = &fixture.hub;
    let told = |ids: &[u32]| Reaches { clusters: ids.iter().map(|&id| cluster(id)).collect() };
    assert_eq!(reaches(hub), told(&[]));
    hear_reaches(hub, NodeId(8), told(&[2, 3]));
    hear_reaches(hub, NodeId(9), told(&[2]));
    hear_reaches(hub, NodeId(8), told(&[2, 4]));
    let now = Instant::now();
    let beside = |now| hub.transit.beside(now).into_iter().collect::<BTreeMap<_, _>>();
    let both = vec![NodeId(8), NodeId(9)];
    assert_eq!(beside(now), BTreeMap::from([(cluster(2), both), (cluster(4), vec![NodeId(8)])]));
    assert!(beside(now + HEARD_WITHIN).is_empty());
    fixture.stop().await;
}

async fn policy(fixture: &Fixture, transit: bool) {
    let command = SetLinkPolicy {
        cluster: "phx".parse().unwrap(),
        merge_namespaces: MergeRule::All,
        stale: StalePolicy::ServeLast,
        transit,
    };
    fixture.hub.propose("test", command).await.unwrap();
}

/// Waits until the neighbour is told so.
async fn told(fixture: &Fixture, phx: ClusterId, transit: bool) {
    let mut plan = fixture.hub.transit.watch();
    let so = |plan: &Arc<Plan>| plan.told.contains_key(&phx) == transit;
    tokio::time::timeout(SOON, plan.wait_for(so)).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_links_with_transit_count_and_those_that_are_paused_do_too() {
    let fixture = Fixture::start().await;
    let hub = &fixture.hub;
    let peer = crate::links::introduction::tests::facts("phx", 2);
    let link = EstablishLink {
        invite: None,
        peer: peer.clone(),
        roots: vec![vec![2]],
        gateways: vec![crate::links::introduction::tests::gateway(7)],
        key: [3; 32].into(),
        merge_namespaces: MergeRule::All,
    };
    hub.propose("test", link).await.unwrap();
    start(hub);
    let routes = Routes {
        transit: true,
        paths: vec![
            TransitPath { clusters: vec![peer.id, cluster(9)] },
            TransitPath { clusters: vec![cluster(9)] },
        ],
    };
    let direct = Speaking::new(hub, peer.id, NodeId(7), "192.0.2.1:7443".parse().unwrap()).unwrap();
    assert!(Speaking::new(hub, peer.id, NodeId(7), transit_addr(peer.id)).is_none());
    direct.hear(&routes);
    assert_eq!(hub.transit.counts(), (0, 1), "transit is off, and one path made no sense");
    policy(&fixture, true).await;
    told(&fixture, peer.id, true).await;
    let origins = hub.transit.watch().borrow().origins.clone();
    assert_eq!(origins[&peer.id], BTreeSet::from([peer.id, cluster(9)]));
    // its gateway does not answer probes
    assert!(hub.transit.way(cluster(9)).is_none() && via(hub, peer.id).is_empty());
    hub.propose("test", PauseLink { cluster: peer.name.clone(), paused: true }).await.unwrap();
    drop(direct);
    let mut plan = hub.transit.watch();
    let alone = |plan: &Arc<Plan>| plan.origins[&peer.id].len() == 1;
    tokio::time::timeout(SOON, plan.wait_for(alone)).await.unwrap().unwrap();
    assert!(hub.catalog().link_by_id(peer.id).unwrap().paused);
    policy(&fixture, false).await;
    told(&fixture, peer.id, false).await;
    fixture.stop().await;
}
