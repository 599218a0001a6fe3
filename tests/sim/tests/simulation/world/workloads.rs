//! Workloads and their sidecars: they probe two gateways, and go to another one when a gateway does not answer.

use super::gateway::Gateway;
use super::{Addr, World, facts};
use crate::coverage::Sometimes;
use crate::invariants::reattached::{CALM, GRACE};
use crate::sabotage::Sabotage;
use causeway_model::{Health, Locality, WorkloadId};
use causeway_presence::{Row, ServedService};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const PROBE: Duration = Duration::from_millis(500);
/// A gateway that misses so many probes is left.
const MISSES: u8 = 2;
/// A gateway that a workload is attached to.
pub(crate) struct Home {
    pub(crate) process: u64,
    pub(crate) since: Instant,
    misses: u8,
}

/// When the last gateway of a workload died, and who must know of the workload's grace.
pub(crate) struct Lost {
    pub(crate) at: Instant,
    pub(crate) observers: BTreeSet<Addr>,
}

pub(crate) struct Workload {
    pub(crate) cluster: usize,
    pub(crate) row: Row,
    pub(crate) homes: BTreeMap<Addr, Home>,
    pub(crate) lost: Option<Lost>,
    next_probe: Instant,
    /// How many gateways its sidecar keeps.
    keeps: usize,
    /// Until when its sidecar does nothing, as if its machine stood still.
    frozen: Option<Instant>,
}

impl Workload {
    /// Whether it has been silent so lately that it may well be taken for dead.
    pub(crate) fn was_silent(&self, now: Instant) -> bool {
        self.frozen.is_some_and(|until| now < until + Duration::from_secs(3))
    }
}

impl World {
    pub(crate) fn birth(&mut self, cluster: usize) {
        let id = WorkloadId(self.number());
        let services: BTreeSet<u64> = (0..2).map(|_| self.rng.below(facts::SERVICES)).collect();
        let account = self.rng.below(3);
        let zone = if self.rng.percent(50) { "a" } else { "b" };
        let served = |n: u64| ServedService {
            name: facts::service(n),
            ports: facts::ports(),
            health: Health::Healthy,
        };
        let row = Row {
            workload: id,
            identity: facts::identity(cluster, account),
            services: services.into_iter().map(served).collect(),
            locality: Locality { region: format!("r{cluster}"), zone: zone.into() },
            weight: 100,
            overlay: vec!["192.0.2.1:7000".parse().unwrap()],
            release: "1".into(),
            svid_key: [0; 32],
            older_keys: Box::default(),
            seq: 0,
            attached: false,
        };
        let next_probe = self.now + self.rng.ms(0, 500);
        let keeps = 1 + self.rng.index(2);
        let workload =
            Workload { cluster, row, homes: BTreeMap::new(), lost: None, next_probe, keeps, frozen: None };
        self.workloads.insert(id, workload);
    }

    pub(crate) fn step_workloads(&mut self) {
        let now = self.now;
        for (at, id) in self.undead.clone() {
            if self.gateways[at].runs() {
                self.process(at).presence.handle_seen(now, id);
            }
        }
        let due = self.workloads.iter().filter(|(_, workload)| workload.next_probe <= now);
        for id in due.map(|(id, _)| *id).collect::<Vec<_>>() {
            let workload = self.workloads.get_mut(&id).unwrap();
            workload.next_probe = now + PROBE;
            if workload.frozen.is_none_or(|until| until <= now) {
                self.probe(id);
            }
        }
    }

    fn probe(&mut self, id: WorkloadId) {
        let workload = &self.workloads[&id];
        let homes: Vec<Addr> = workload.homes.keys().copied().collect();
        for at in homes {
            let works = self.gateways[at].runs();
            let misses = self.workloads[&id].homes[&at].misses;
            // a single probe may be lost
            let answered = works && (misses > 0 || !self.rng.percent(10));
            let workload = self.workloads.get_mut(&id).unwrap();
            if answered {
                self.reach(id, at);
            } else if misses + 1 >= MISSES {
                workload.homes.remove(&at);
            } else if let Some(home) = workload.homes.get_mut(&at) {
                home.misses += 1;
            }
        }
        let workload = &self.workloads[&id];
        if workload.homes.len() < workload.keeps {
            let free = |gateway: &&Gateway| {
                gateway.cluster == workload.cluster
                    && gateway.runs()
                    && !workload.homes.contains_key(&gateway.addr)
            };
            let free: Vec<Addr> = self.gateways.iter().filter(free).map(|gateway| gateway.addr).collect();
            if let Some(at) = self.rng.pick(&free) {
                self.attach(id, at);
            }
        }
    }

    /// A probe comes to a gateway, which may have been started anew, or have taken the workload for dead.
    fn reach(&mut self, id: WorkloadId, at: Addr) {
        let (now, process) = (self.now, self.process_id(at));
        let known = self.process(at).presence.local_rows().any(|row| row.workload == id);
        let home = self.workloads.get_mut(&id).unwrap().homes.get_mut(&at).unwrap();
        home.misses = 0;
        if Some(home.process) != process || !known {
            return self.attach(id, at);
        }
        self.process(at).presence.handle_seen(now, id);
    }

    fn attach(&mut self, id: WorkloadId, at: Addr) {
        let (now, row) = (self.now, self.workloads[&id].row.clone());
        if self.process(at).presence.handle_attach(now, row).is_err() {
            return;
        }
        self.trace(|| format!("workload {id} attaches to gateway {at}"));
        let process = self.process_id(at).unwrap();
        let workload = self.workloads.get_mut(&id).unwrap();
        workload.homes.insert(at, Home { process, since: now, misses: 0 });
        if workload.lost.take_if(|lost| lost.at + GRACE <= now).is_none() && workload.lost.is_some() {
            self.seen.note(Sometimes::ReattachedInTime);
        }
    }

    /// A workload dies, with or without a word.
    pub(crate) fn die(&mut self, id: WorkloadId, goodbye: bool) {
        let Some(workload) = self.workloads.remove(&id) else { return };
        self.trace(|| format!("workload {id} dies"));
        let now = self.now;
        for (at, home) in workload.homes {
            if self.sabotage == Sabotage::ImmortalLease {
                self.undead.push((at, id));
            }
            if goodbye && self.gateways[at].runs() && self.process_id(at) == Some(home.process) {
                self.process(at).presence.handle_goodbye(now, id);
            }
        }
    }

    /// The health of one service of a workload changes.
    pub(crate) fn change_health(&mut self, id: WorkloadId) {
        let health = if self.rng.percent(50) { Health::Healthy } else { Health::Unhealthy };
        let Some(workload) = self.workloads.get_mut(&id) else { return };
        workload.row.services[0].health = health;
        let homes: Vec<(Addr, u64)> = workload.homes.iter().map(|(at, home)| (*at, home.process)).collect();
        for (at, process) in homes {
            // what a gateway that stands still is told it takes when it goes on; here the sidecar attaches elsewhere
            if self.process_id(at) == Some(process) && self.gateways[at].runs() {
                self.attach(id, at);
            } else {
                self.workloads.get_mut(&id).unwrap().homes.remove(&at);
            }
        }
    }

    pub(crate) fn freeze(&mut self, id: WorkloadId) {
        let until = self.now + self.rng.ms(500, 9000);
        self.trace(|| format!("workload {id} stands still"));
        if let Some(workload) = self.workloads.get_mut(&id) {
            workload.frozen = Some(until);
        }
    }

    /// Sidecars go on.
    pub(crate) fn thaw(&mut self) {
        let now = self.now;
        for workload in self.workloads.values_mut() {
            workload.frozen = workload.frozen.map(|until| until.min(now));
        }
    }

    /// The gateway at `dead` is about to die: whose last one is it?
    pub(crate) fn note_lost_homes(&mut self, dead: Addr) {
        let now = self.now;
        let members = self.members(self.gateways[dead].cluster);
        let observers: BTreeSet<Addr> =
            members.filter(|at| *at != dead && self.calm_for(*at, dead) >= CALM).collect();
        let processes: Vec<Option<u64>> = (0..self.gateways.len()).map(|at| self.process_id(at)).collect();
        for workload in self.workloads.values_mut() {
            let live = |at: &Addr, home: &Home| processes[*at] == Some(home.process);
            let here =
                workload.homes.get(&dead).is_some_and(|home| live(&dead, home) && home.since + CALM <= now);
            let elsewhere = workload.homes.iter().any(|(at, home)| *at != dead && live(at, home));
            if here && !elsewhere && !workload.was_silent(now) {
                workload.lost = Some(Lost { at: now, observers: observers.clone() });
            }
        }
        // who is started anew knows nothing of anybody's grace
        for workload in self.workloads.values_mut() {
            if let Some(lost) = &mut workload.lost {
                lost.observers.remove(&dead);
            }
        }
    }

    /// A gateway says that a workload is gone.
    pub(crate) fn note_gone(&mut self, id: WorkloadId) {
        let lost = self.workloads.get(&id).and_then(|workload| workload.lost.as_ref());
        if lost.is_some_and(|lost| lost.at + GRACE <= self.now) {
            self.seen.note(Sometimes::GoneAfterGrace);
        }
    }
}
