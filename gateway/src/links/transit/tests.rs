use super::*;
use crate::hub::fixture::{Fixture, SOON};
use causeway_catalog::{EstablishLink, MergeRule, PauseLink, SetLinkPolicy, StalePolicy};
use causeway_transport::gateway::transit_addr;
use causeway_wire::link::TransitPath;

fn cluster(id: u32) -> ClusterId {
    ClusterId::new(id).unwrap()
}

#[test]
fn whether_a_cluster_answers_directly_is_known_with_its_time() {
    let transit = Transit::new(cluster(1));
    let (start, peer) = (Instant::now(), cluster(2));
    let at = |secs| start + Duration::from_secs(secs);
    let answers = |direct| BTreeMap::from([(peer, direct)]);
    assert_eq!(transit.direct_for(at(9), peer), (false, Duration::ZERO), "nobody looked yet");
    transit.observe(at(0), &answers(false));
    transit.observe(at(1), &answers(false));
    assert_eq!(transit.direct_for(at(3), peer), (false, Duration::from_secs(3)));
    transit.observe(at(4), &answers(true));
    assert_eq!(transit.direct_for(at(6), peer), (true, Duration::from_secs(2)));
    transit.observe(at(7), &BTreeMap::new());
    assert_eq!(transit.direct_for(at(9), peer), (false, Duration::ZERO));
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
async fn only_links_with_transit_that_are_not_paused_count() {
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
    let pause = |paused| PauseLink { cluster: peer.name.clone(), paused };
    hub.propose("test", pause(true)).await.unwrap();
    told(&fixture, peer.id, false).await;
    hub.propose("test", pause(false)).await.unwrap();
    told(&fixture, peer.id, true).await;
    drop(direct);
    let mut plan = hub.transit.watch();
    let alone = |plan: &Arc<Plan>| plan.origins[&peer.id].len() == 1;
    tokio::time::timeout(SOON, plan.wait_for(alone)).await.unwrap().unwrap();
    policy(&fixture, false).await;
    told(&fixture, peer.id, false).await;
    fixture.stop().await;
}
