//! A stand-in for the consensus of a cluster: one log, ordered by a leader, acknowledged by a majority, on disks that
//! crash and fail.
//!
//! It keeps the promises of Raft and not its messages: an election is one step, decided by who can reach whom; but a
//! voter's term is on its disk at once, only an up-to-date log is elected, only entries of the leader's own term are
//! counted, what a follower has and its leader has not is cut off, and what was not synced is lost in a crash.

mod elect;
mod replicate;

use super::{Addr, World};
use crate::coverage::Sometimes;
use crate::oracle::WriteId;
use crate::sabotage::Sabotage;
use causeway_catalog::{Catalog, Command, CommandBody};
use causeway_model::Revision;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An entry of the log; a blank one begins the term of a leader. The first has index 1, which is its revision.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) term: u64,
    pub(crate) command: Option<Arc<Command>>,
}

/// What survives a crash.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) term: u64,
    pub(crate) log: Vec<Entry>,
    /// How many entries are safe.
    pub(crate) synced: usize,
    /// How many entries were known to be committed when that was last written.
    pub(crate) committed: usize,
    /// It takes no more writes; its node has left the group until it is repaired and started again.
    pub(crate) failed: bool,
}

impl Disk {
    pub(crate) fn crash(&mut self) {
        self.log.truncate(self.synced);
    }

    fn term_at(&self, index: usize) -> u64 {
        index.checked_sub(1).and_then(|i| self.log.get(i)).map_or(0, |entry| entry.term)
    }
}

/// A process's part in the group.
pub(crate) struct Member {
    pub(crate) leads: bool,
    pub(crate) leader: Option<Addr>,
    commit: usize,
    applied: usize,
    /// When the leader was last heard, or, leading, when a majority was.
    heard: Instant,
    patience: Duration,
    followers: BTreeMap<Addr, Follower>,
    /// The writes that wait for an entry, with the term that it must have.
    waiting: BTreeMap<usize, (u64, WriteId)>,
}

#[derive(Clone, Copy)]
struct Follower {
    next: usize,
    matched: usize,
    heard: Instant,
}

impl Member {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            leads: false,
            leader: None,
            commit: 0,
            applied: 0,
            heard: now,
            patience: Duration::ZERO,
            followers: BTreeMap::new(),
            waiting: BTreeMap::new(),
        }
    }
}

/// What members tell each other; any of them may be lost or overtaken.
#[derive(Clone)]
pub(crate) enum Message {
    Append {
        term: u64,
        before: usize,
        before_term: u64,
        entries: Vec<Entry>,
        commit: usize,
    },
    /// All of the catalog, for who is far behind.
    Install {
        term: u64,
        log: Vec<Entry>,
        catalog: Arc<Catalog>,
    },
    Appended {
        term: u64,
        matched: usize,
    },
    Refused {
        term: u64,
        hint: usize,
    },
}

impl World {
    /// Puts the same first entries on all disks of a cluster.
    pub(crate) fn write_logs(&mut self, cluster: usize, commands: Vec<CommandBody>) {
        let at = self.wall_secs(cluster * super::PER_CLUSTER);
        let command = |body| Some(Arc::new(Command { at, by: "founder".into(), body }));
        let log: Vec<Entry> =
            commands.into_iter().map(|body| Entry { term: 1, command: command(body) }).collect();
        for addr in self.members(cluster) {
            let length = log.len();
            self.gateways[addr].disk =
                Disk { term: 1, log: log.clone(), synced: length, committed: length, failed: false };
        }
    }

    /// A process that starts applies what its disk knows to be committed.
    pub(crate) fn recover(&mut self, at: Addr) {
        let committed = self.gateways[at].disk.committed;
        self.new_patience(at);
        self.process(at).member.commit = committed;
        self.apply_committed(at);
    }

    fn new_patience(&mut self, at: Addr) {
        let patience = self.rng.ms(500, 1000);
        self.process(at).member.patience = patience;
    }

    /// A write arrives at a gateway, which sends it on if another one leads.
    pub(crate) fn propose(&mut self, write: WriteId, at: Addr) {
        if !self.gateways[at].runs() || self.gateways[at].disk.failed {
            return;
        }
        let member = &self.process(at).member;
        if !member.leads {
            if let Some(leader) =
                member.leader.filter(|leader| *leader != at && self.net.is_open(at, *leader))
            {
                let delay = self.net.delay(&mut self.rng, at, leader);
                self.later(delay, super::Arrival::Proposed { write, at: leader });
            }
            return;
        }
        let command = self.oracle.writes[write].command.clone();
        let index = self.append(at, Some(command.clone()));
        let term = self.gateways[at].disk.term;
        self.process(at).member.waiting.insert(index, (term, write));
        if self.sabotage == Sabotage::AckBeforeMajority {
            let revision = Revision(index as u64);
            let applied = self.process(at).catalog.clone().apply(revision, &command);
            self.answer(at, write, revision, &applied);
        }
    }

    /// A leader adds an entry to its log; its index.
    fn append(&mut self, at: Addr, command: Option<Arc<Command>>) -> usize {
        let disk = &mut self.gateways[at].disk;
        disk.log.push(Entry { term: disk.term, command });
        let length = disk.log.len();
        self.sync(at);
        self.replicate(at);
        length
    }

    /// What the log holds now will be safe in a moment.
    fn sync(&mut self, at: Addr) {
        let (process, upto) = (self.process_id(at).unwrap(), self.gateways[at].disk.log.len());
        let slow = self.slow_disks && self.rng.percent(70) || self.rng.percent(3);
        let delay = if slow { self.rng.ms(50, 500) } else { self.rng.ms(1, 10) };
        self.later(delay, super::Arrival::Synced { at, process, upto });
    }

    pub(crate) fn group_synced(&mut self, at: Addr, process: u64, upto: usize) {
        if self.process_id(at) != Some(process) || self.gateways[at].disk.failed {
            return;
        }
        let gateway = &mut self.gateways[at];
        let member = &gateway.process.as_ref().unwrap().member;
        gateway.disk.synced = gateway.disk.synced.max(upto.min(gateway.disk.log.len()));
        gateway.disk.committed = member.commit.min(gateway.disk.synced);
        let (leads, leader) = (member.leads, member.leader);
        if leads {
            self.count(at);
        } else if let Some(leader) = leader {
            self.say_appended(at, leader);
        }
    }

    /// Applies what is committed, and answers the writes among it.
    fn apply_committed(&mut self, at: Addr) {
        let cluster = self.gateways[at].cluster;
        loop {
            let clock = self.wall_secs(at);
            let gateway = &mut self.gateways[at];
            let process = gateway.process.as_mut().unwrap();
            let index = process.member.applied + 1;
            if index > process.member.commit {
                return;
            }
            process.member.applied = index;
            let revision = Revision(index as u64);
            let Entry { term, command } = gateway.disk.log[index - 1].clone();
            let waiting = process.member.waiting.remove(&index).filter(|(asked, _)| *asked == term);
            let Some(command) = command else {
                let checked = self.oracle.applied(cluster, revision, None);
                self.settle(checked);
                continue;
            };
            let applied = if self.sabotage == Sabotage::LocalClock && at % 3 == 1 {
                process.catalog.apply(revision, &Command { at: clock, ..Command::clone(&command) })
            } else {
                process.catalog.apply(revision, &command)
            };
            process.events.record(revision, &applied.events);
            process.catalog_changed = true;
            if applied.outcome.is_err() {
                self.seen.note(Sometimes::CommandRefused);
            }
            let checked = self.oracle.applied(cluster, revision, Some((&command, &applied)));
            self.settle(checked);
            self.note_applied_late(&command);
            if let Some((_, write)) = waiting {
                self.answer(at, write, revision, &applied);
            }
        }
    }

    /// The disk of a gateway takes no more writes.
    pub(crate) fn fail_disk(&mut self, at: Addr) {
        let others =
            self.members(self.gateways[at].cluster).filter(|other| self.gateways[*other].disk.failed);
        if others.count() > 0 {
            return;
        }
        self.trace(|| format!("disk of gateway {at} fails"));
        self.seen.note(Sometimes::DiskError);
        let gateway = &mut self.gateways[at];
        gateway.disk.failed = true;
        if let Some(process) = &mut gateway.process {
            process.member.leads = false;
            process.member.leader = None;
            process.member.waiting.clear();
        }
    }

    /// The gateway that leads a cluster's group, as it thinks itself.
    pub(crate) fn leader_of(&self, cluster: usize) -> Option<Addr> {
        self.members(cluster).find(|at| {
            let gateway = &self.gateways[*at];
            gateway.runs() && gateway.process.as_ref().is_some_and(|process| process.member.leads)
        })
    }

    fn siblings(&self, at: Addr) -> impl Iterator<Item = Addr> + use<> {
        self.members(self.gateways[at].cluster).filter(move |other| *other != at)
    }
}
