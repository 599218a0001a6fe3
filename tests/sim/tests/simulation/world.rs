//! The simulated mesh: clusters of three gateways, what runs on them, and the network and disks under them.
//!
//! Time is virtual and moves in ticks. Whatever happens at random comes from the seed, so a seed is a run.

pub(crate) mod chaos;
pub(crate) mod clients;
pub(crate) mod clock;
pub(crate) mod conns;
pub(crate) mod exports;
pub(crate) mod facts;
pub(crate) mod gateway;
pub(crate) mod group;
pub(crate) mod heal;
pub(crate) mod links;
pub(crate) mod net;
pub(crate) mod siblings;
pub(crate) mod watchers;
pub(crate) mod workloads;

pub(crate) use gateway::{Gateway, Peer};
pub(crate) use workloads::Workload;

use crate::coverage::Coverage;
use crate::invariants::{self, Verdict, Violation};
use crate::oracle::{Oracle, WriteId};
use crate::rng::Rng;
use crate::sabotage::Sabotage;
use causeway_catalog::{Applied, Refusal};
use causeway_model::{ClusterFacts, Revision, WorkloadId};
use conns::Conn;
use net::Net;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use watchers::{Delivery, Watcher};

/// How many gateways a cluster has.
pub(crate) const PER_CLUSTER: usize = 3;
/// The step of time.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// The number of a gateway among all gateways of all clusters.
pub(crate) type Addr = usize;

/// What was sent and arrives later, other than over connections.
pub(crate) enum Arrival {
    Group { from: Addr, to: Addr, message: group::Message },
    Synced { at: Addr, process: u64, upto: usize },
    Proposed { write: WriteId, at: Addr },
    Answered { write: WriteId, revision: Revision, refused: Option<Refusal> },
    PowerCut { cluster: usize },
    Watched { watcher: usize, session: u64, delivery: Delivery },
}

pub(crate) struct World {
    pub(crate) sabotage: Sabotage,
    pub(crate) rng: Rng,
    pub(crate) now: Instant,
    start: Instant,
    pub(crate) clusters: Vec<ClusterFacts>,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) net: Net,
    conns: Vec<Conn>,
    arrivals: BTreeMap<(Instant, u64), Arrival>,
    /// Numbers everything that needs a number.
    sequence: u64,
    pub(crate) workloads: BTreeMap<WorkloadId, Workload>,
    pub(crate) watchers: Vec<Watcher>,
    pub(crate) oracle: Oracle,
    pub(crate) seen: Coverage,
    violation: Option<Violation>,
    tracing: bool,
    ticks: u64,
    /// How many events a replica remembers.
    event_capacity: usize,
    /// Clusters whose import caps are low, by index: of whom, from whom.
    capped: Option<(usize, usize)>,
    /// Workloads that are dead and go on being heard, in worlds that are broken so.
    undead: Vec<(Addr, WorkloadId)>,
    slow_disks: bool,
    /// Whether frames of exports are spoilt on their way.
    pub(crate) spoiling: bool,
}

impl World {
    pub(crate) fn new(seed: u64, sabotage: Sabotage, tracing: bool) -> Self {
        let mut rng = Rng::new(seed);
        let count = 2 + rng.index(3);
        let now = Instant::now();
        let event_capacity = rng.pick(&[6, 24, 4096]).unwrap_or(24);
        let slow_disks = rng.percent(25);
        let capped = rng.percent(40).then_some((0, 1));
        let mut world = Self {
            sabotage,
            now,
            start: now,
            clusters: (0..count).map(facts::cluster).collect(),
            gateways: (0..count * PER_CLUSTER).map(|addr| Gateway::new(addr, now)).collect(),
            net: Net::new(),
            conns: Vec::new(),
            arrivals: BTreeMap::new(),
            sequence: 0,
            workloads: BTreeMap::new(),
            watchers: Vec::new(),
            oracle: Oracle::default(),
            seen: Coverage::default(),
            violation: None,
            tracing,
            ticks: 0,
            event_capacity,
            capped,
            undead: Vec::new(),
            slow_disks,
            spoiling: true,
            rng,
        };
        world.found_clusters();
        world
    }

    /// Runs for `length`, or until a promise is broken.
    pub(crate) fn run(&mut self, length: Duration) -> Verdict {
        let end = self.now + length;
        while self.now < end {
            self.now += TICK;
            self.ticks += 1;
            self.step();
            if self.ticks.is_multiple_of(100) {
                let checked = self.check();
                self.settle(checked);
            }
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
        }
        Ok(())
    }

    fn step(&mut self) {
        while let Some(due) = self.arrivals.first_entry().filter(|due| due.key().0 <= self.now) {
            let arrival = due.remove();
            self.arrive(arrival);
        }
        self.step_conns();
        self.step_workloads();
        for addr in 0..self.gateways.len() {
            self.step_gateway(addr);
        }
        if self.ticks.is_multiple_of(5) {
            self.give_up_writes();
            self.step_watchers();
            self.measure_calm();
        }
        if self.ticks.is_multiple_of(25) {
            self.dial();
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Group { from, to, message } => self.group_hears(from, to, message),
            Arrival::Synced { at, process, upto } => self.group_synced(at, process, upto),
            Arrival::Proposed { write, at } => self.propose(write, at),
            Arrival::Answered { write, revision, refused } => self.answered(write, revision, refused),
            Arrival::PowerCut { cluster } => self.cut_power(cluster),
            Arrival::Watched { watcher, session, delivery } => self.watched(watcher, session, delivery),
        }
    }

    /// What must hold at any time.
    fn check(&self) -> Verdict {
        invariants::replicas::check(self)?;
        invariants::bounds::check(self)?;
        invariants::acknowledged::check(self)
    }

    /// What must hold some time after everything was healed.
    pub(crate) fn check_healed(&self) -> Verdict {
        self.check()?;
        invariants::watches::check_settled(self)?;
        invariants::ghosts::check(self)?;
        invariants::convergence::check(self)
    }

    /// Notes the first promise that is broken.
    pub(crate) fn settle(&mut self, verdict: Verdict) {
        if let Err(violation) = verdict {
            self.trace(|| format!("VIOLATION {violation}"));
            self.violation.get_or_insert(violation);
        }
    }

    pub(crate) fn later(&mut self, delay: Duration, arrival: Arrival) {
        let number = self.number();
        self.arrivals.insert((self.now + delay, number), arrival);
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    pub(crate) fn trace(&self, what: impl FnOnce() -> String) {
        if self.tracing {
            eprintln!("{:9.3} {}", (self.now - self.start).as_secs_f64(), what());
        }
    }

    /// The most imports that gateways of cluster `here` are to take from cluster `there`.
    pub(crate) fn cap(&self, here: usize, there: usize) -> usize {
        if self.capped == Some((here, there)) { 2 } else { 1000 }
    }

    pub(crate) fn members(&self, cluster: usize) -> std::ops::Range<Addr> {
        cluster * PER_CLUSTER..(cluster + 1) * PER_CLUSTER
    }

    /// What this run came to, to compare runs of the same seed.
    pub(crate) fn fingerprint(&self) -> (Coverage, u64, Vec<Revision>) {
        let revisions = self.oracle.clusters.iter().map(|history| history.known).collect();
        (self.seen.clone(), self.sequence, revisions)
    }

    fn answer(&mut self, from: Addr, write: WriteId, revision: Revision, applied: &Applied) {
        let refused = applied.outcome.as_ref().err().cloned();
        let delay = self.rng.ms(1, 5);
        self.trace(|| format!("gateway {from} answers write {write} at {revision}: {refused:?}"));
        self.later(delay, Arrival::Answered { write, revision, refused });
    }
}
