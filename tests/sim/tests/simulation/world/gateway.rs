//! A gateway: its disk and clock, which survive, and its process, which does not.

use super::exports::Exports;
use super::group::{Disk, Member};
use super::{Addr, PER_CLUSTER, World, facts};
use crate::coverage::Sometimes;
use crate::invariants::reattached;
use crate::sabotage::Sabotage;
use causeway_catalog::{Catalog, EventLog};
use causeway_federation::{DigestVerdict, Exporter, ImportChange, PeerImports};
use causeway_model::{Epoch, NodeId, Revision};
use causeway_presence::{Event, Incarnation, Presence, PresenceConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

pub(crate) struct Gateway {
    pub(crate) addr: Addr,
    pub(crate) cluster: usize,
    pub(crate) node: NodeId,
    pub(crate) disk: Disk,
    /// How far its clock is from the truth.
    pub(crate) clock_error_ms: i64,
    pub(crate) process: Option<Process>,
    /// Until when the process stands still.
    pub(crate) paused: Option<Instant>,
    /// The greatest incarnation of any of its processes.
    pub(crate) last_incarnation: u64,
    /// Since when nothing has been between it and another gateway of its cluster.
    pub(crate) calm: BTreeMap<Addr, Instant>,
}

impl Gateway {
    pub(crate) fn new(addr: Addr, now: Instant) -> Self {
        Self {
            addr,
            cluster: addr / PER_CLUSTER,
            node: facts::node(addr),
            disk: Disk::default(),
            clock_error_ms: 0,
            process: None,
            paused: None,
            last_incarnation: 0,
            calm: (0..PER_CLUSTER).map(|i| (addr / PER_CLUSTER * PER_CLUSTER + i, now)).collect(),
        }
    }

    /// Whether its process runs and does not stand still.
    pub(crate) fn runs(&self) -> bool {
        self.process.is_some() && self.paused.is_none()
    }
}

/// What one process has in memory.
pub(crate) struct Process {
    pub(crate) id: u64,
    pub(crate) member: Member,
    pub(crate) catalog: Catalog,
    pub(crate) events: EventLog,
    pub(crate) presence: Presence,
    pub(crate) incarnation: Incarnation,
    pub(crate) peers: BTreeMap<usize, Peer>,
    pub(crate) catalog_changed: bool,
    pub(crate) exports_changed: bool,
    pub(crate) exported_at: Instant,
    /// Sessions of links have something to say.
    pub(crate) flush: bool,
}

/// A linked cluster, as one process sees it.
pub(crate) struct Peer {
    pub(crate) exporter: Exporter,
    pub(crate) imports: PeerImports,
    pub(crate) verdicts: BTreeMap<NodeId, DigestVerdict>,
    /// The gateways of whose exports something was kept from us.
    pub(crate) spoilt: BTreeSet<NodeId>,
    /// What was told last, in worlds that forget to take it back.
    pub(crate) told: Exports,
    stale: bool,
}

impl World {
    pub(crate) fn process(&mut self, at: Addr) -> &mut Process {
        self.gateways[at].process.as_mut().unwrap()
    }

    pub(crate) fn process_id(&self, at: Addr) -> Option<u64> {
        self.gateways[at].process.as_ref().map(|process| process.id)
    }

    pub(crate) fn start(&mut self, at: Addr) {
        if self.gateways[at].process.is_some() {
            return;
        }
        let (id, wall, now) = (self.number(), self.wall_ms(at), self.now);
        let gateway = &mut self.gateways[at];
        // the last one is on its disk: the clock may have been set back
        let incarnation = wall.max(gateway.last_incarnation + 1);
        gateway.last_incarnation = incarnation;
        let config = presence_config(self.sabotage, at);
        let process = Process {
            id,
            member: Member::new(now),
            catalog: Catalog::new(),
            events: EventLog::new(Revision(0)),
            presence: Presence::new(gateway.node, Incarnation(incarnation), config, now),
            incarnation: Incarnation(incarnation),
            peers: BTreeMap::new(),
            catalog_changed: true,
            exports_changed: true,
            exported_at: now,
            flush: true,
        };
        gateway.process = Some(process);
        self.trace(|| format!("gateway {at} starts, incarnation {incarnation}"));
        self.recover(at);
        let revision = self.process(at).catalog.revision();
        self.process(at).events = EventLog::with_capacity(revision, self.event_capacity);
        self.sync_peers(at);
    }

    /// The process dies, and with it all it had in memory and had written without a sync.
    pub(crate) fn kill(&mut self, at: Addr) {
        if self.gateways[at].process.is_none() {
            return;
        }
        self.trace(|| format!("gateway {at} dies"));
        self.note_lost_homes(at);
        for member in self.members(self.gateways[at].cluster) {
            self.gateways[member].calm.insert(at, self.now);
            self.gateways[at].calm.insert(member, self.now);
        }
        let gateway = &mut self.gateways[at];
        gateway.process = None;
        gateway.paused = None;
        gateway.disk.crash();
    }

    pub(crate) fn pause(&mut self, at: Addr, length: Duration) {
        self.trace(|| format!("gateway {at} stands still for {length:?}"));
        self.gateways[at].paused = Some(self.now + length);
    }

    pub(crate) fn step_gateway(&mut self, at: Addr) {
        let now = self.now;
        let gateway = &mut self.gateways[at];
        gateway.paused.take_if(|until| *until <= now);
        if !gateway.runs() {
            return;
        }
        self.step_presence(at);
        if (self.ticks + at as u64).is_multiple_of(5) {
            self.step_group(at);
            self.step_imports(at);
        }
        if std::mem::take(&mut self.process(at).catalog_changed) {
            self.sync_peers(at);
        }
        self.step_exports(at);
        self.push_watches(at);
    }

    fn step_presence(&mut self, at: Addr) {
        let now = self.now;
        let presence = &mut self.process(at).presence;
        if presence.poll_timeout().is_some_and(|due| due <= now) {
            let before = presence.counters();
            presence.handle_timeout(now);
            if presence.counters().stalls > before.stalls {
                self.seen.note(Sometimes::StallForgiven);
            }
        }
        while let Some(event) = self.process(at).presence.poll_event() {
            self.trace(|| format!("gateway {at}: {event:?}"));
            match event {
                Event::Gone(id) => {
                    let checked = reattached::check_gone(self, at, id);
                    self.settle(checked);
                    self.note_gone(id);
                }
                Event::ServiceChanged(_) => self.process(at).exports_changed = true,
                Event::Up(_) | Event::Changed(_) => {}
            }
        }
        self.speak_to_siblings(at);
    }

    fn step_imports(&mut self, at: Addr) {
        let now = self.now;
        let process = self.gateways[at].process.as_mut().unwrap();
        for peer in process.peers.values_mut() {
            if peer.imports.poll_timeout().is_some_and(|due| due <= now) {
                let held = !peer.imports.is_empty();
                let change = peer.imports.handle_timeout(now);
                if held && peer.imports.is_empty() && peer.imports.stale_for(now).is_some() {
                    self.seen.note(Sometimes::Withdrawn);
                }
                peer.learn(&change, &mut self.seen);
            }
        }
    }

    /// Peers come and go with the links of the catalog.
    fn sync_peers(&mut self, at: Addr) {
        let linked: BTreeSet<usize> = {
            let catalog = &self.process(at).catalog;
            let ids = catalog.links().map(|link| link.peer.id.get() as usize - 1);
            ids.collect()
        };
        for cluster in &linked {
            let rules = self.import_rules(self.gateways[at].cluster, *cluster);
            let process = self.process(at);
            let epoch = Epoch(process.incarnation.0);
            process.peers.entry(*cluster).or_insert_with(|| Peer {
                exporter: Exporter::new(epoch),
                imports: PeerImports::new(rules),
                verdicts: BTreeMap::new(),
                spoilt: BTreeSet::new(),
                told: Exports::new(),
                stale: false,
            });
        }
        let process = self.process(at);
        process.exports_changed = true;
        process.peers.retain(|cluster, _| linked.contains(cluster));
        self.end_removed_links(at);
    }

    /// Keeps the account of how long pairs of siblings have been undisturbed.
    pub(crate) fn measure_calm(&mut self) {
        for a in 0..self.gateways.len() {
            for b in self.members(self.gateways[a].cluster) {
                if !self.is_calm(a, b) {
                    self.gateways[a].calm.insert(b, self.now);
                }
            }
        }
    }

    fn is_calm(&self, a: Addr, b: Addr) -> bool {
        self.gateways[a].runs()
            && self.gateways[b].runs()
            && (a == b || self.net.are_open(a, b) && self.hears_sibling(a, b))
    }

    /// For how long nothing has been between two gateways of a cluster.
    pub(crate) fn calm_for(&self, a: Addr, b: Addr) -> Duration {
        self.now - self.gateways[a].calm[&b]
    }
}

impl Peer {
    /// Takes note of what an event changed.
    pub(crate) fn learn(&mut self, change: &ImportChange, seen: &mut crate::coverage::Coverage) {
        if change.refused_count > 0 {
            seen.note(Sometimes::OfferRefused);
        }
        if change.over_cap > 0 {
            seen.note(Sometimes::OverCap);
        }
        match change.staleness {
            Some(true) => self.stale = true,
            Some(false) if std::mem::take(&mut self.stale) => seen.note(Sometimes::StaleAndBack),
            _ => {}
        }
    }
}

fn presence_config(sabotage: Sabotage, at: Addr) -> PresenceConfig {
    let config = PresenceConfig { max_rows_per_message: 4, max_tombstones: 6, ..PresenceConfig::default() };
    if sabotage == Sabotage::EagerDeath && at.is_multiple_of(PER_CLUSTER) {
        return PresenceConfig { dead_gateway_grace: Duration::ZERO, ..config };
    }
    config
}
