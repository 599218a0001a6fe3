use super::*;
use crate::{Exporter, SILENT_AFTER};
use causeway_model::{ClusterId, Locality};
use causeway_wire::view::ExportSummary;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

fn rules() -> ImportRules {
    ImportRules::new(ClusterFacts {
        name: "phx".parse().unwrap(),
        id: ClusterId::new(2).unwrap(),
        trust_domain: "phx.mesh".parse().unwrap(),
        locality: Locality { region: "phx".into(), zone: "a".into() },
    })
}

fn offers(list: &[(u64, u32)]) -> BTreeMap<ServiceHandle, ExportSummary> {
    let offer = |handle: u64, healthy| ExportSummary {
        name: format!("s{handle}.shop").parse().unwrap(),
        handle: ServiceHandle(handle),
        ports: vec!["80/http".parse().unwrap()].try_into().unwrap(),
        identities: vec!["spiffe://phx.mesh/ns/shop/sa/web".parse().unwrap()],
        healthy,
        total: 10,
        localities: Vec::new(),
    };
    list.iter().map(|(handle, healthy)| (ServiceHandle(*handle), offer(*handle, *healthy))).collect()
}

/// Two gateways of the peer, and what we believe of it.
struct World {
    now: Instant,
    imports: PeerImports,
    exporters: BTreeMap<NodeId, Exporter>,
}

impl World {
    fn new() -> Self {
        let exporters = [A, B].map(|node| (node, Exporter::new(causeway_model::Epoch(node.0))));
        Self { now: Instant::now(), imports: PeerImports::new(rules()), exporters: exporters.into() }
    }

    fn open(&mut self, node: NodeId) {
        self.imports.handle_open(self.now, node).unwrap();
    }

    /// `node` exports `list` and says so.
    fn tell(&mut self, node: NodeId, list: &[(u64, u32)]) -> ImportChange {
        self.now += Duration::from_millis(1);
        let exporter = self.exporters.get_mut(&node).unwrap();
        exporter.set_exports(offers(list));
        let mut all = ImportChange::default();
        let importer = self.imports.nodes.get(&node).and_then(|node| node.importer.have());
        for frame in exporter.hello(importer) {
            let change = self.imports.handle_exports(self.now, node, frame).unwrap();
            all.changed.extend(change.changed);
            all.staleness = change.staleness.or(all.staleness);
        }
        all
    }

    fn digest(&mut self, node: NodeId) -> PeerDigest {
        self.imports.handle_digest(self.now, node, &self.exporters[&node].digest())
    }

    /// Lets time pass and runs every timer on the way.
    fn pass(&mut self, seconds: u64) -> ImportChange {
        let end = self.now + Duration::from_secs(seconds);
        let mut all = ImportChange::default();
        for step in 0.. {
            assert!(step < 100, "the timers never rest");
            let Some(at) = self.imports.poll_timeout().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            let change = self.imports.handle_timeout(self.now);
            all.changed.extend(change.changed);
            all.staleness = change.staleness.or(all.staleness);
        }
        self.now = end;
        all
    }

    fn held(&self) -> Vec<(u64, u32)> {
        self.imports.imports().map(|import| (import.summary.handle.0, import.summary.healthy)).collect()
    }
}

#[test]
fn a_service_is_imported_while_any_voice_offers_it() {
    let mut world = World::new();
    world.open(A);
    world.open(B);
    world.tell(A, &[(1, 5), (2, 5)]);
    world.tell(B, &[(1, 4)]);
    assert_eq!(world.held(), [(1, 4), (2, 5)], "the numbers that changed last");
    assert!(world.tell(B, &[(1, 4)]).is_empty());
    world.tell(A, &[(1, 3)]);
    assert_eq!(world.held(), [(1, 3)]);
    let change = world.imports.handle_closed(world.now, A);
    assert_eq!((world.held(), change.changed.len(), change.staleness), (vec![(1, 4)], 1, None));
}

#[test]
fn a_silent_gateway_has_no_voice_while_another_speaks() {
    let mut world = World::new();
    world.open(A);
    world.open(B);
    world.tell(A, &[(1, 5), (2, 5)]);
    world.tell(B, &[(1, 5)]);
    world.pass(2);
    world.digest(B);
    assert_eq!(world.held(), [(1, 5), (2, 5)]);
    let change = world.pass(1);
    assert_eq!((world.held(), change.staleness), (vec![(1, 5)], None));
    world.digest(A);
    assert_eq!(world.held(), [(1, 5), (2, 5)]);
}

#[test]
fn a_silent_peer_is_stale_kept_and_at_last_withdrawn() {
    let mut world = World::new();
    world.open(A);
    world.tell(A, &[(1, 5)]);
    let change = world.pass(3);
    assert_eq!((change.staleness, world.held()), (Some(true), vec![(1, 5)]));
    assert_eq!(world.imports.stale_for(world.now), Some(SILENT_AFTER));
    world.pass(3600);
    assert_eq!(world.held(), [(1, 5)]);
    let offer = world.imports.by_handle(ServiceHandle(1)).unwrap().offer(
        world.imports.peer(),
        world.imports.stale_for(world.now),
        &[],
    );
    assert_eq!(offer.stale_for, Some(3603));
    assert_eq!(world.digest(A).change.staleness, Some(false));
    let change = world.pass(24 * 3600 + 1);
    assert_eq!((world.held(), change.changed.len()), (vec![], 1));
    assert_eq!(world.imports.poll_timeout(), None);
    assert_eq!(world.tell(A, &[(1, 5)]).changed.len(), 1, "it starts over");
}

#[test]
fn what_came_of_a_gateway_that_died_earlier_does_not_come_back() {
    let mut world = World::new();
    world.open(A);
    world.open(B);
    world.tell(A, &[(1, 5)]);
    world.tell(B, &[(1, 5)]);
    world.imports.handle_closed(world.now, A);
    world.tell(B, &[(2, 5)]);
    let change = world.imports.handle_closed(world.now, B);
    assert_eq!((world.held(), change.staleness), (vec![(2, 5)], Some(true)));
    world.pass(60);
    assert_eq!(world.held(), [(2, 5)]);
    world.open(A);
    world.imports.handle_heard(world.now);
    assert_eq!(world.held(), [(2, 5)], "its copy is not confirmed yet");
    world.tell(A, &[(2, 6)]);
    assert_eq!(world.held(), [(2, 6)]);
}

#[test]
fn two_connections_to_one_gateway_count_as_one_voice() {
    let mut world = World::new();
    world.open(A);
    world.tell(A, &[(1, 5)]);
    assert!(world.imports.handle_open(world.now, A).unwrap().is_some());
    assert_eq!(world.imports.handle_closed(world.now, A).staleness, None);
    assert_eq!(world.imports.handle_closed(world.now, A).staleness, Some(true));
    assert_eq!(world.imports.handle_closed(world.now, A).staleness, None);
    let frame = world.exporters[&A].hello(None).remove(0);
    assert_eq!(world.imports.handle_exports(world.now, A, frame).unwrap_err().reason(), "not-open");
}

#[test]
fn the_gateways_of_a_peer_are_bounded() {
    let mut world = World::new();
    for node in 1..=MAX_PEER_NODES as u64 {
        world.open(NodeId(node));
    }
    let refused = world.imports.handle_open(world.now, NodeId(99)).unwrap_err();
    assert_eq!(refused, ImportError::TooManyNodes(NodeId(99)));
    world.imports.handle_closed(world.now, NodeId(3));
    assert!(world.imports.handle_open(world.now, NodeId(99)).is_ok(), "a closed one makes room");
    world.imports.handle_closed(world.now, NodeId(99));
    world.pass(3600);
    assert_eq!(world.imports.nodes.len(), MAX_PEER_NODES - 1, "and is forgotten");
}
