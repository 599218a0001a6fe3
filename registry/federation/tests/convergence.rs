//! Two gateways of a peer tell their exports to one importing gateway, over connections that lose, repeat, reorder and
//! break, from processes that restart. Once the network heals, what is imported is what is exported, within 10 s.

#![allow(clippy::unwrap_used, reason = "a test")]

use causeway_federation::{DIGEST_INTERVAL, DigestVerdict, ExportCursor, Exporter, ImportRules, PeerImports};
use causeway_model::{ClusterFacts, ClusterId, Epoch, Locality, NodeId, Revision, ServiceHandle};
use causeway_wire::link::{Exports, ExportsDigest};
use causeway_wire::view::ExportSummary;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(50);
const NODES: [NodeId; 2] = [NodeId(1), NodeId(2)];

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

enum Frame {
    Exports(Exports),
    Digest(ExportsDigest),
    SendSnapshot,
    Have((Epoch, Revision)),
}

struct Connection {
    node: NodeId,
    cursor: ExportCursor,
    queue: Vec<(Instant, u64, Frame)>,
    digest_at: Instant,
    have_said: bool,
}

#[derive(Default, Debug)]
struct Seen {
    gaps: u32,
    asked: u32,
    restarts: u32,
    resumed: u32,
    adopted: u64,
}

struct World {
    rng: Rng,
    now: Instant,
    hostile: bool,
    dirty: bool,
    names: BTreeMap<u64, ServiceHandle>,
    desired: BTreeMap<ServiceHandle, ExportSummary>,
    exporters: BTreeMap<NodeId, Exporter>,
    connections: Vec<Connection>,
    imports: PeerImports,
    told: BTreeMap<String, u32>,
    verdicts: BTreeMap<NodeId, DigestVerdict>,
    sent: u64,
    seen: Seen,
}

fn summary(handle: u64, name: u64, healthy: u32) -> ExportSummary {
    ExportSummary {
        name: format!("s{name}.shop").parse().unwrap(),
        handle: ServiceHandle(handle),
        ports: vec!["80/http".parse().unwrap()].try_into().unwrap(),
        identities: (0..3).map(|i| format!("spiffe://phx.mesh/ns/shop/sa/w{i}").parse().unwrap()).collect(),
        healthy,
        total: 9,
        localities: Vec::new(),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let facts = ClusterFacts {
            name: "phx".parse().unwrap(),
            id: ClusterId::new(2).unwrap(),
            trust_domain: "phx.mesh".parse().unwrap(),
            locality: Locality { region: "phx".into(), zone: "a".into() },
        };
        let mut world = Self {
            rng: Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            now: Instant::now(),
            hostile: true,
            dirty: true,
            names: BTreeMap::new(),
            desired: BTreeMap::new(),
            exporters: NODES.map(|node| (node, Exporter::new(Epoch(10)))).into(),
            connections: Vec::new(),
            imports: PeerImports::new(ImportRules::new(facts)),
            told: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            sent: 0,
            seen: Seen::default(),
        };
        for node in [NODES[0], NODES[0], NODES[1]] {
            world.open(node);
        }
        world
    }

    fn open(&mut self, node: NodeId) {
        let have = self.imports.handle_open(self.now, node).unwrap();
        self.seen.resumed +=
            u32::from(have.is_some_and(|(epoch, _)| epoch == self.exporters[&node].position().0));
        self.connections.push(Connection {
            node,
            cursor: ExportCursor::new(have),
            queue: Vec::new(),
            digest_at: self.now,
            have_said: false,
        });
    }

    /// The peer's services change; a name that was removed may come back under another handle.
    fn change_services(&mut self) {
        self.dirty = true;
        for _ in 0..=self.rng.below(30) {
            let name = self.rng.below(700);
            let healthy = u32::try_from(self.rng.below(9)).unwrap();
            if self.names.contains_key(&name) && self.rng.below(4) == 0 {
                self.names.remove(&name).and_then(|handle| self.desired.remove(&handle));
            } else {
                let fresh = ServiceHandle(self.rng.below(1 << 40));
                let handle = *self.names.entry(name).or_insert(fresh);
                self.desired.insert(handle, summary(handle.0, name, healthy));
            }
        }
    }

    fn break_something(&mut self) {
        match self.rng.below(60) {
            0 => {
                let index = usize::try_from(self.rng.below(3)).unwrap();
                let node = self.connections.remove(index).node;
                self.note_closed(node);
                self.open(node);
            }
            1 => self.restart(),
            _ => {}
        }
    }

    /// A process restarts; now and then its clock was set back, and so is its epoch.
    fn restart(&mut self) {
        self.seen.restarts += 1;
        let node = NODES[usize::try_from(self.rng.below(2)).unwrap()];
        let epoch = match self.rng.below(4) {
            0 => self.rng.below(1000),
            _ => self.exporters[&node].position().0.0 + 1,
        };
        self.exporters.insert(node, Exporter::new(Epoch(epoch)));
        let count = self.connections.len();
        self.connections.retain(|connection| connection.node != node);
        for _ in self.connections.len()..count {
            self.note_closed(node);
            self.open(node);
        }
    }

    fn note_closed(&mut self, node: NodeId) {
        let change = self.imports.handle_closed(self.now, node);
        self.learn(change.changed);
    }

    /// What a listener that only follows the changes believes.
    fn learn(&mut self, changed: BTreeSet<causeway_model::ServiceName>) {
        for name in changed {
            match self.imports.by_name(&name) {
                Some(import) => self.told.insert(name.to_string(), import.healthy()),
                None => self.told.remove(&name.to_string()),
            };
        }
    }

    fn send(&mut self, index: usize, frame: Frame) {
        if self.hostile && self.rng.below(100) < 8 {
            return;
        }
        let jitter = if self.hostile && self.rng.below(100) < 8 { self.rng.below(2000) } else { 0 };
        let copies = if self.hostile && self.rng.below(100) < 5 { 2 } else { 1 };
        let at = self.now + Duration::from_millis(30 + jitter);
        for _ in 1..copies {
            if let Frame::Exports(frame) = &frame {
                self.connections[index].queue.push((at + STEP * 3, self.sent, Frame::Exports(frame.clone())));
            }
        }
        self.sent += 1;
        self.connections[index].queue.push((at, self.sent, frame));
    }

    fn speak(&mut self) {
        for index in 0..self.connections.len() {
            let connection = &mut self.connections[index];
            let exporter = &self.exporters[&connection.node];
            let frames = exporter.poll(self.now, &mut connection.cursor);
            let due = connection.digest_at <= self.now;
            let digest = due.then(|| exporter.digest());
            if due {
                connection.digest_at = self.now + DIGEST_INTERVAL;
            }
            for frame in frames {
                self.send(index, Frame::Exports(frame));
            }
            if let Some(digest) = digest {
                self.send(index, Frame::Digest(digest));
            }
        }
    }

    fn listen(&mut self) {
        for index in 0..self.connections.len() {
            let (node, now) = (self.connections[index].node, self.now);
            let mut due: Vec<_> =
                self.connections[index].queue.extract_if(.., |(at, ..)| *at <= now).collect();
            due.sort_by_key(|(at, order, _)| (*at, *order));
            for (_, _, frame) in due {
                let ask = match frame {
                    Frame::Exports(frame) => match self.imports.handle_exports(now, node, frame) {
                        Ok(change) => {
                            assert_eq!(change.refused_count, 0, "{:?}", change.refused);
                            self.learn(change.changed);
                            false
                        }
                        Err(error) => {
                            assert!(!error.is_violation(), "{error}");
                            self.seen.gaps += 1;
                            error.ask()
                        }
                    },
                    Frame::Digest(digest) => {
                        let told = self.imports.handle_digest(now, node, &digest, true);
                        self.learn(told.change.changed);
                        self.verdicts.insert(node, told.verdict);
                        let in_step = told.verdict == DigestVerdict::InStep;
                        let first =
                            in_step && !std::mem::replace(&mut self.connections[index].have_said, true);
                        if first || told.adopted {
                            self.send(index, Frame::Have((digest.epoch, digest.revision)));
                        }
                        told.verdict == DigestVerdict::Ask
                    }
                    Frame::Have(at) => {
                        self.connections[index].cursor.handle_have(at);
                        false
                    }
                    Frame::SendSnapshot => {
                        self.connections[index].cursor.handle_send_snapshot();
                        false
                    }
                };
                if ask {
                    self.seen.asked += 1;
                    self.send(index, Frame::SendSnapshot);
                }
            }
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        for exporter in self.exporters.values_mut().filter(|exporter| self.dirty || exporter.is_empty()) {
            assert!(exporter.set_exports(self.desired.clone()).left_out.is_empty());
        }
        self.dirty = false;
        self.speak();
        self.listen();
        if self.imports.poll_timeout().is_some_and(|at| at <= self.now) {
            let change = self.imports.handle_timeout(self.now);
            self.learn(change.changed);
            assert!(self.imports.poll_timeout().is_none_or(|at| at > self.now), "a timer fires for ever");
        }
    }

    fn is_healed(&self) -> bool {
        let held: BTreeMap<_, _> =
            self.imports.imports().map(|import| (import.handle(), import.summary())).collect();
        let want = self.desired.values().map(|s| (s.name.to_string(), s.healthy)).collect();
        let in_step = self.verdicts.values().all(|verdict| *verdict == DigestVerdict::InStep);
        in_step && held == self.desired && self.told == want && self.imports.voices().eq(NODES)
    }
}

fn run(seed: u64) -> Seen {
    let mut world = World::new(seed);
    for _ in 0..60 {
        world.change_services();
    }
    for step in 0..400 {
        if step % 5 == 0 {
            world.change_services();
        }
        world.break_something();
        world.step();
    }
    world.hostile = false;
    let healed = world.now;
    // what the network still holds arrives; the last change is one more of ours
    world.change_services();
    while world.now < healed + Duration::from_secs(10) {
        world.step();
    }
    assert!(world.is_healed(), "seed {seed} did not heal: {:?}", world.seen);
    assert!(world.imports.stale_for(world.now).is_none(), "seed {seed}");
    world.seen.adopted = world.imports.adopted();
    world.seen
}

#[test]
fn the_importer_heals_and_keeps_no_ghost() {
    let mut seen = Seen::default();
    let seeds = std::env::var("SEEDS").map_or(8, |count| count.parse().unwrap());
    for seed in 1..=seeds {
        let run = run(seed);
        seen.gaps += run.gaps;
        seen.asked += run.asked;
        seen.restarts += run.restarts;
        seen.resumed += run.resumed;
        seen.adopted += run.adopted;
    }
    // the test reached what it is about
    let counts = [seen.gaps, seen.asked, seen.restarts, seen.resumed];
    assert!(counts.iter().all(|count| *count > 0) && seen.adopted > 0, "{seen:?}");
}
