use super::*;
use crate::hub::fixture::{Fixture, SOON};
use crate::links::introduction::tests::{facts as cluster, gateway};
use causeway_catalog::{AddGateway, EstablishLink, LinkKey, MergeRule};
use causeway_federation::path::Hearing;
use causeway_identity::ClusterCa;
use causeway_model::GatewayFacts;
use causeway_wire::link::PairEnd;
use std::time::SystemTime;

const LATENCY: Duration = Duration::from_millis(40);
const STEP: Duration = Duration::from_millis(10);

fn id(cluster: u32, node: u64) -> GatewayId {
    GatewayId { cluster: ClusterId::new(cluster).unwrap(), node: NodeId(node) }
}

fn end(cluster: u32, node: u64) -> PairEnd {
    PairEnd { cluster: ClusterId::new(cluster).unwrap(), node: NodeId(node) }
}

/// The health of the link between iad (1) and phx (2) at one of their gateways.
fn health(own: GatewayId) -> Health {
    let [iad, phx] = [cluster("iad", 1), cluster("phx", 2)];
    let (own_facts, peer) = if own.cluster == iad.id { (iad, phx) } else { (phx, iad) };
    Health::new((&own_facts, own.node), &peer)
}

enum Said {
    Heartbeat(Heartbeat),
    Reports(PairReports),
}

/// Gateways 1 and 2 of iad and of phx, with a connection between each two of different clusters, and directions that lose
/// everything.
struct World {
    start: Instant,
    now: Instant,
    gateways: BTreeMap<GatewayId, Health>,
    pulses: BTreeMap<(GatewayId, GatewayId), Pulse>,
    cut: Vec<(GatewayId, GatewayId)>,
    under_way: Vec<(Instant, GatewayId, GatewayId, Said)>,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let ids = [id(1, 1), id(1, 2), id(2, 1), id(2, 2)];
        let mut world = Self {
            start: now,
            now,
            gateways: ids.map(|own| (own, health(own))).into(),
            pulses: BTreeMap::new(),
            cut: Vec::new(),
            under_way: Vec::new(),
        };
        for own in ids {
            for peer in ids.into_iter().filter(|peer| peer.cluster != own.cluster) {
                let pulse = world.gateways.get_mut(&own).unwrap().handle_open(now, peer.node);
                world.pulses.insert((own, peer), pulse);
            }
        }
        world
    }

    fn send(&mut self, from: GatewayId, to: GatewayId, said: Said) {
        if !self.cut.contains(&(from, to)) {
            self.under_way.push((self.now + LATENCY, from, to, said));
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        let (now, knows) = (self.now, |_| true);
        for (_, from, to, said) in self.under_way.extract_if(.., |(at, ..)| *at <= now) {
            let health = self.gateways.get_mut(&to).unwrap();
            match said {
                Said::Heartbeat(heartbeat) => health.handle_heartbeat(now, from.node, &heartbeat),
                Said::Reports(reports) if from.cluster == to.cluster => {
                    health.handle_sibling_reports(now, &reports, knows);
                }
                Said::Reports(reports) => health.handle_peer_reports(now, &reports, knows),
            }
        }
        for own in self.gateways.keys().copied().collect::<Vec<_>>() {
            let unix_ms = self.unix_ms();
            let Some(reports) = self.gateways.get_mut(&own).unwrap().poll(now, unix_ms) else { continue };
            let sibling = id(own.cluster.get(), 3 - own.node.0);
            self.send(own, sibling, Said::Reports(reports));
        }
        let mut said = Vec::new();
        for ((from, to), pulse) in &mut self.pulses {
            if pulse.heartbeats.has_changed().unwrap() {
                said.extend(
                    pulse.heartbeats.borrow_and_update().map(|beat| (*from, *to, Said::Heartbeat(beat))),
                );
            }
            if pulse.reports.has_changed().unwrap() {
                let reports = (**pulse.reports.borrow_and_update()).clone();
                said.push((*from, *to, Said::Reports(reports)));
            }
        }
        said.into_iter().for_each(|(from, to, said)| self.send(from, to, said));
    }

    fn unix_ms(&self) -> u64 {
        1_800_000_000_000 + u64::try_from((self.now - self.start).as_millis()).unwrap()
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// What `own` says of its pair with `peer`.
    fn words(&self, own: GatewayId, peer: GatewayId) -> String {
        let health = &self.gateways[&own];
        health.words(health.pair(self.now, peer.node).unwrap().verdict.unwrap())
    }
}

#[test]
fn both_ends_measure_a_pair_and_name_the_direction_that_is_lost() {
    let mut world = World::new();
    world.run(Duration::from_secs(5));
    let (a, b) = (id(1, 1), id(2, 2));
    for (own, peer) in [(a, b), (b, a)] {
        let pair = world.gateways[&own].pair(world.now, peer.node).unwrap();
        assert!(pair.rtt.unwrap() >= LATENCY * 2 && pair.rtt.unwrap() < LATENCY * 2 + STEP * 3, "{pair:?}");
        assert_eq!((pair.loss_in, pair.loss_out, pair.verdict), (Some(0), Some(0), Some(Verdict::Up)));
    }
    world.cut.push((a, b));
    world.run(Duration::from_secs(3));
    let lost = "one-way: iad/0000000000000001 -> phx/0000000000000002 is lost";
    assert_eq!([world.words(a, b), world.words(b, a)], [lost, lost]);
    assert!(!world.gateways[&a].is_one_way(world.now), "three other pairs are up");
    assert_eq!(world.words(a, id(2, 1)), "up");
    world.run(Duration::from_secs(60));
    assert_eq!([world.words(a, b), world.words(b, a)], [lost, lost], "it stays so");
    world.cut.clear();
    world.run(Duration::from_secs(3));
    assert_eq!([world.words(a, b), world.words(b, a)], ["up", "up"]);
}

#[test]
fn a_link_is_one_way_when_no_two_gateways_hear_each_other() {
    let mut world = World::new();
    world.run(Duration::from_secs(5));
    // each way is open between one pair only, so that all is known everywhere by way of the siblings
    let (a, b) = ([id(1, 1), id(1, 2)], [id(2, 1), id(2, 2)]);
    world.cut.extend([(a[0], b[0]), (b[1], a[1]), (a[0], b[1]), (b[0], a[1])]);
    world.run(Duration::from_secs(4));
    for own in a.into_iter().chain(b) {
        assert!(world.gateways[&own].is_one_way(world.now), "{own:?}");
    }
}

#[test]
fn a_peer_that_says_another_thing_each_millisecond_causes_ten_messages_a_second() {
    let (start, mut health) = (Instant::now(), health(id(1, 1)));
    let pulse = health.handle_open(start, NodeId(1));
    let (mut heartbeats, mut told) = (0, 0);
    let (mut beats, mut reports) = (pulse.heartbeats, pulse.reports);
    for ms in 0..10_000_u64 {
        let now = start + Duration::from_millis(ms);
        let hearing = u8::try_from(ms % 4).unwrap();
        let heartbeat = Heartbeat { seq: ms, unix_ms: ms, heard: ms, received: ms, heard_ago_ms: 0, hearing };
        health.handle_heartbeat(now, NodeId(1), &heartbeat);
        let said = |node| causeway_wire::link::PairReport {
            from: end(1, 2),
            to: end(2, node),
            unix_ms: ms,
            heard_ago_ms: 0,
            said_ago_ms: 0,
            hearing,
        };
        let many = PairReports { reports: (1..=1000).map(said).collect() };
        health.handle_peer_reports(now, &many, |_| true);
        told += usize::from(health.poll(now, ms).is_some_and(|told| told.reports.len() <= MAX_PAIR_REPORTS));
        heartbeats += usize::from(beats.has_changed().unwrap());
        assert!(reports.borrow_and_update().reports.len() <= MAX_PAIR_REPORTS);
        beats.mark_unchanged();
    }
    assert!((20..=100).contains(&told), "{told} messages to each sibling in 10 s");
    assert!((20..=100).contains(&heartbeats), "{heartbeats} heartbeats in 10 s");
}

#[test]
fn what_is_to_be_told_is_polled_in_time_and_not_all_the_time() {
    let (start, mut health) = (Instant::now(), health(id(1, 1)));
    let _pulse = health.handle_open(start, NodeId(1));
    health.handle_closed(start, NodeId(1));
    let (mut now, mut looks) = (start, 0);
    while now < start + Duration::from_secs(10) {
        looks += 1;
        health.poll(now, 0);
        let wake = health.poll_timeout(now);
        assert!(wake > now, "a loop that never rests");
        now = wake.min(now + HEARTBEAT_INTERVAL);
    }
    assert!((20..=101).contains(&looks), "{looks}");
    let verdict = health.pair(now, NodeId(1)).unwrap().verdict;
    assert_eq!(verdict, Some(Verdict::Silent), "nothing was ever heard");
}

#[test]
fn every_connection_of_a_pair_sends_the_same_heartbeats() {
    let (start, mut health) = (Instant::now(), health(id(1, 1)));
    let pulses = [(); 3].map(|()| health.handle_open(start, NodeId(1)));
    health.poll(start, 0);
    let seqs = pulses.each_ref().map(|pulse| pulse.heartbeats.borrow().unwrap().seq);
    assert_eq!(seqs, [1; 3]);
    health.handle_closed(start, NodeId(1));
    assert_eq!(health.pairs[&NodeId(1)].connections, 2);
}

#[test]
fn gateways_that_are_no_more_or_are_not_wanted_are_forgotten() {
    let (start, mut health) = (Instant::now(), health(id(1, 1)));
    let has = |node: NodeId| node.0 <= 3;
    for node in 1..=4 {
        let _ = health.handle_open(start, NodeId(node));
    }
    let nodes = |health: &Health| health.pairs(start).iter().map(|(node, _)| node.0).collect::<Vec<_>>();
    health.sweep(start, has);
    assert_eq!(nodes(&health), [1, 2, 3, 4], "a connection stands with it");
    health.handle_closed(start, NodeId(4));
    health.handle_closed(start, NodeId(3));
    health.sweep(start, has);
    assert_eq!(nodes(&health), [1, 2, 3]);
    health.handle_closed(start, NodeId(2));
    health.sweep(start + REMEMBERED, has);
    assert_eq!(nodes(&health), [1, 2, 3], "another connection is wanted");
    let _ = health.handle_open(start, NodeId(2));
    health.sweep(start + REMEMBERED, has);
    assert_eq!(nodes(&health), [1, 2]);
}

#[test]
fn a_peer_with_gateways_without_end_is_measured_up_to_a_bound() {
    let (start, mut health) = (Instant::now(), health(id(1, 1)));
    for node in 1..=200 {
        let mut pulse = health.handle_open(start, NodeId(node));
        health.handle_heartbeat(
            start,
            NodeId(node),
            &Heartbeat { seq: 1, unix_ms: 1, heard: 0, received: 0, heard_ago_ms: 0, hearing: 0 },
        );
        assert!(pulse.reports.borrow_and_update().reports.is_empty());
    }
    assert_eq!((health.pairs.len(), health.pairs(start).len()), (MAX_PAIRS, MAX_PAIRS));
}

/// What gateway `to` of phx says of what gateway `from` of iad sends, which is that it is lost.
fn lost(from: u64, to: u64) -> PairReports {
    let report = causeway_wire::link::PairReport {
        from: end(1, from),
        to: end(2, to),
        unix_ms: 1,
        heard_ago_ms: 2500,
        said_ago_ms: 0,
        hearing: Hearing::OneWay.into(),
    };
    PairReports { reports: vec![report] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_gateways_that_are_known_to_hold_links_are_believed() {
    let fixture = Fixture::start().await;
    let hub = &fixture.hub;
    let (iad, other) = (hub.node.cluster().id, NodeId(9));
    let ca = ClusterCa::create(&cluster("phx", 2).trust_domain, SystemTime::now()).unwrap();
    let command = EstablishLink {
        invite: None,
        peer: cluster("phx", 2),
        roots: vec![ca.root_der().to_vec()],
        gateways: vec![gateway(7)],
        key: LinkKey([3; 32]),
        merge_namespaces: MergeRule::All,
    };
    hub.propose("test", command).await.unwrap();
    for (node, role) in [(8, GatewayRole::Forwarder), (9, GatewayRole::Gateway)] {
        let facts = GatewayFacts { node: NodeId(node), role, ..gateway(node) };
        hub.propose("test", AddGateway { facts }).await.unwrap();
    }
    let deadline = tokio::time::Instant::now() + SOON;
    while hub.with_peer(ClusterId::new(2).unwrap(), |_| ()).is_none() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let said = |from: NodeId, to| {
        let mut reports = lost(from.0, to);
        reports.reports[0].from.cluster = iad;
        reports
    };
    let now = Instant::now();
    let known = |hub: &Hub| {
        hub.with_peer(ClusterId::new(2).unwrap(), |peer| peer.health.core.verdicts(now).len()).unwrap()
    };
    hear_sibling(hub, NodeId(8), GatewayRole::Forwarder, &said(other, 7));
    hear_sibling(hub, NodeId(8), GatewayRole::Gateway, &said(other, 7));
    hear_sibling(hub, NodeId(9), GatewayRole::Forwarder, &said(other, 7));
    hear_sibling(hub, NodeId(10), GatewayRole::Gateway, &said(other, 7));
    assert_eq!(known(hub), 0, "a forwarder, one that is known as one or was one, and one that nobody knows");
    for (from, to) in [(NodeId(8), 7), (NodeId(10), 7), (other, 6)] {
        hear_sibling(hub, NodeId(9), GatewayRole::Gateway, &said(from, to));
    }
    hear_sibling(hub, NodeId(9), GatewayRole::Gateway, &PairReports { reports: Vec::new() });
    assert_eq!(known(hub), 0, "of gateways that neither cluster has");
    hear_sibling(hub, NodeId(9), GatewayRole::Gateway, &said(other, 7));
    assert_eq!(known(hub), 1);
    fixture.stop().await;
}
