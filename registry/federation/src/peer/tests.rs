mod adoption;

use super::*;
use crate::{DEFAULT_EJECT_AFTER, Exporter, SILENT_AFTER, StalePolicy};
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
        for frame in importer.and_then(|have| exporter.resume(have)).unwrap_or_else(|| exporter.snapshot()) {
            let change = self.imports.handle_exports(self.now, node, frame).unwrap();
            all.changed.extend(change.changed);
            all.staleness = change.staleness.or(all.staleness);
        }
        all
    }

    fn digest(&mut self, node: NodeId) -> PeerDigest {
        self.imports.handle_digest(self.now, node, &self.exporters[&node].digest(), true)
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
        self.imports.imports().map(|import| (import.handle().0, import.healthy())).collect()
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
    let silent = world.imports.stale_for(world.now);
    let offer = world.imports.by_handle(ServiceHandle(1)).unwrap().offer(silent, &[]);
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
fn a_peer_that_was_restored_from_a_backup_takes_its_exports_back() {
    let (c, backup) = (NodeId(3), [(1, 1), (2, 2)]);
    let mut world = World::new();
    for node in [A, B] {
        world.open(node);
        world.tell(node, &backup);
        // what happened after the backup: many revisions, another health, one export gone and one new
        for healthy in 3..10 {
            world.tell(node, &[(1, healthy), (9, healthy)]);
        }
    }
    assert_eq!(world.held(), [(1, 9), (9, 9)]);
    for node in [A, B] {
        world.imports.handle_closed(world.now, node);
    }
    world.pass(3);
    // the restored gateway is another one, its clock was set back and its revisions begin anew
    world.exporters.insert(c, Exporter::new(causeway_model::Epoch(0)));
    world.open(c);
    world.tell(c, &backup);
    assert!(world.exporters[&c].position() < world.exporters[&A].position());
    world.pass(10);
    assert_eq!(world.digest(c).verdict, DigestVerdict::InStep);
    assert_eq!(world.held(), backup, "nothing of the lost gateways is left");
    world.tell(c, &[(2, 5)]);
    assert_eq!(world.held(), [(2, 5)]);
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
    let frame = world.exporters[&A].snapshot().remove(0);
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

/// A peer with two services that falls silent, under `stale`.
fn stale_world(stale: StalePolicy) -> World {
    let mut world = World::new();
    world.imports.set_rules(world.now, ImportRules { stale, ..rules() });
    world.open(A);
    world.tell(A, &[(1, 5), (2, 5)]);
    world
}

#[test]
fn imports_of_a_silent_peer_are_ejected_after_a_time_and_back_at_once() {
    let mut world = stale_world(StalePolicy::EjectAfter(DEFAULT_EJECT_AFTER));
    let change = world.pass(29);
    assert_eq!((change.staleness, change.changed.len(), world.held().len()), (Some(true), 0, 2));
    let change = world.pass(1);
    assert_eq!((change.changed.len(), change.staleness), (2, None));
    assert!(world.imports.is_withheld() && world.imports.is_empty() && world.held().is_empty());
    assert!(world.imports.by_name(&"s1.shop".parse().unwrap()).is_none());
    assert!(world.imports.by_handle(ServiceHandle(1)).is_none());
    assert_eq!(world.imports.remembered(None).count(), 2);
    assert_eq!(world.imports.stale_for(world.now), Some(DEFAULT_EJECT_AFTER));
    // any frame: no exports, no digest
    let change = world.imports.handle_heard(world.now);
    assert_eq!((change.changed.len(), change.staleness, world.held().len()), (2, Some(false), 2));
    assert!(world.imports.handle_heard(world.now).is_empty());
    world.pass(24 * 3600);
    assert_eq!(
        (world.imports.remembered(None).count(), world.imports.poll_timeout()),
        (0, None),
        "withdrawn"
    );
}

#[test]
fn imports_of_a_silent_peer_are_fenced_at_once() {
    let mut world = stale_world(StalePolicy::Fence);
    let change = world.pass(3);
    assert_eq!((change.staleness, change.changed.len(), world.held().len()), (Some(true), 2, 0));
    assert_eq!(world.digest(A).change.changed.len(), 2);
    let change = world.imports.handle_closed(world.now, A);
    assert_eq!((change.staleness, change.changed.len(), world.held().len()), (Some(true), 2, 0), "closed");
    world.open(A);
    let change = world.imports.handle_heard(world.now);
    assert_eq!((change.staleness, world.held().len()), (None, 0), "the second silence is damped");
    world.pass(1);
    assert_eq!(world.held().len(), 2);
}

#[test]
fn what_changes_while_imports_are_withheld_is_told_when_they_are_back() {
    let mut world = stale_world(StalePolicy::Fence);
    world.open(B);
    world.pass(3);
    world.imports.handle_heard(world.now);
    world.pass(3);
    assert!(world.imports.is_withheld());
    // B is heard while the second silence is still damped
    let change = world.tell(B, &[(1, 9)]);
    assert!(change.changed.is_empty() && world.imports.is_withheld());
    let change = world.pass(1);
    assert!(!world.imports.is_withheld());
    assert_eq!((world.held(), change.changed.len()), (vec![(1, 9)], 1));
}

#[test]
fn the_policy_can_change_while_the_peer_is_silent() {
    let mut world = stale_world(StalePolicy::ServeLast);
    world.pass(10);
    let mut set = |stale| {
        let change = world.imports.set_rules(world.now, ImportRules { stale, ..rules() });
        (change.changed.len(), world.imports.len())
    };
    assert_eq!(set(StalePolicy::Fence), (2, 0));
    assert_eq!(set(StalePolicy::EjectAfter(Duration::from_secs(5))), (0, 0));
    assert_eq!(set(StalePolicy::EjectAfter(Duration::from_secs(20))), (2, 2));
    assert_eq!(set(StalePolicy::EjectAfter(Duration::from_secs(10))), (2, 0));
    assert_eq!(set(StalePolicy::ServeLast), (2, 2));
}

#[test]
fn equal_offers_of_a_peers_gateways_share_memory() {
    let mut world = World::new();
    world.open(A);
    world.open(B);
    world.tell(A, &[(1, 5), (2, 5)]);
    world.tell(B, &[(1, 5), (2, 4)]);
    let shared = |world: &World, handle| {
        let of = |node| world.imports.nodes[&node].importer.offers().get(ServiceHandle(handle)).unwrap();
        Arc::ptr_eq(of(A), of(B))
    };
    assert_eq!((shared(&world, 1), shared(&world, 2)), (true, false));
    world.tell(A, &[(1, 5), (2, 4)]);
    assert!(shared(&world, 2));
}

#[test]
fn pages_begin_after_a_name() {
    let mut world = World::new();
    world.open(A);
    world.tell(A, &[(1, 5), (2, 5), (10, 5)]);
    let page = |after: Option<&str>| -> Vec<String> {
        let after = after.map(|name| name.parse().unwrap());
        world.imports.after(after.as_ref()).map(|import| import.name().to_string()).collect()
    };
    assert_eq!(page(None), ["s1.shop", "s10.shop", "s2.shop"]);
    assert_eq!(page(Some("s1.shop")), ["s10.shop", "s2.shop"]);
    assert_eq!(page(Some("s11.shop")), ["s2.shop"]);
    assert!(page(Some("s2.shop")).is_empty());
}
