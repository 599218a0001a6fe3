//! How the log gets from the leader to the others.

use super::{Entry, Message};
use crate::coverage::Sometimes;
use crate::sabotage::Sabotage;
use crate::world::{Addr, Arrival, PER_CLUSTER, World};
use causeway_catalog::Catalog;
use std::sync::Arc;

/// Who is so many entries behind gets the catalog instead.
const FAR_BEHIND: usize = 8;

impl World {
    fn tell(&mut self, from: Addr, to: Addr, message: Message) {
        if self.net.is_open(from, to) && !self.rng.percent(self.net.loss) {
            let delay = self.net.delay(&mut self.rng, from, to);
            self.later(delay, Arrival::Group { from, to, message });
        }
    }

    /// The leader tells everybody what he lacks.
    pub(super) fn replicate(&mut self, at: Addr) {
        for follower in self.siblings(at) {
            let gateway = &self.gateways[at];
            let process = gateway.process.as_ref().unwrap();
            let (disk, member) = (&gateway.disk, &process.member);
            let next = member.followers.get(&follower).map_or(1, |known| known.next);
            let message = if next + FAR_BEHIND < member.applied {
                let log = disk.log[..member.applied].to_vec();
                Message::Install { term: disk.term, log, catalog: Arc::new(process.catalog.clone()) }
            } else {
                Message::Append {
                    term: disk.term,
                    before: next - 1,
                    before_term: disk.term_at(next - 1),
                    entries: disk.log[next - 1..].to_vec(),
                    commit: member.commit,
                }
            };
            self.tell(at, follower, message);
        }
    }

    pub(crate) fn group_hears(&mut self, from: Addr, at: Addr, message: Message) {
        if !self.gateways[at].runs() || self.gateways[at].disk.failed || !self.net.is_open(from, at) {
            return;
        }
        match message {
            Message::Append { term, before, before_term, entries, commit } => {
                if self.follow(at, from, term) {
                    self.take(at, from, (before, before_term), entries, commit);
                }
            }
            Message::Install { term, log, catalog } => {
                if self.follow(at, from, term) {
                    self.install(at, from, log, &catalog);
                }
            }
            Message::Appended { term, matched } => self.matched(from, at, term, matched),
            Message::Refused { term, hint } => {
                let now = self.now;
                if self.accept_term(at, term)
                    && let Some(follower) = self.process(at).member.followers.get_mut(&from)
                {
                    follower.heard = now;
                    follower.next = follower.next.min(hint + 1).max(follower.matched + 1);
                }
            }
        }
    }

    /// A leader of `term` speaks; false if it is not to be followed.
    fn follow(&mut self, at: Addr, leader: Addr, term: u64) -> bool {
        if !self.accept_term(at, term) {
            let term = self.gateways[at].disk.term;
            self.tell(at, leader, Message::Refused { term, hint: 0 });
            return false;
        }
        let now = self.now;
        let member = &mut self.process(at).member;
        member.leader = Some(leader);
        member.heard = now;
        true
    }

    fn take(
        &mut self,
        at: Addr,
        leader: Addr,
        (before, before_term): (usize, u64),
        entries: Vec<Entry>,
        commit: usize,
    ) {
        let disk = &mut self.gateways[at].disk;
        if before > disk.log.len() || disk.term_at(before) != before_term {
            let (term, hint) = (disk.term, disk.log.len().min(before.saturating_sub(1)));
            return self.tell(at, leader, Message::Refused { term, hint });
        }
        let upto = before + entries.len();
        let (mut cut, mut grown) = (false, false);
        for (index, entry) in (before..).zip(entries) {
            if disk.log.get(index).is_some_and(|own| own.term != entry.term) {
                cut |= disk.log[index..].iter().any(|own| own.command.is_some());
                disk.log.truncate(index);
                disk.synced = disk.synced.min(index);
            }
            if index == disk.log.len() {
                disk.log.push(entry);
                grown = true;
            }
        }
        if cut {
            self.trace(|| format!("gateway {at} gives up the tail of its log"));
            self.seen.note(Sometimes::TailLost);
        }
        let member = &mut self.process(at).member;
        member.commit = member.commit.max(commit.min(upto));
        self.apply_committed(at);
        if grown {
            self.sync(at);
        }
        if self.sabotage == Sabotage::AckBeforeSync {
            let term = self.gateways[at].disk.term;
            self.tell(at, leader, Message::Appended { term, matched: upto });
        } else if !grown {
            let matched = upto.min(self.gateways[at].disk.synced);
            let term = self.gateways[at].disk.term;
            self.tell(at, leader, Message::Appended { term, matched });
        }
    }

    /// A copy of the leader's catalog takes the place of the own one, unless that is as new.
    fn install(&mut self, at: Addr, leader: Addr, log: Vec<Entry>, catalog: &Catalog) {
        let gateway = &mut self.gateways[at];
        let process = gateway.process.as_mut().unwrap();
        let length = log.len();
        if length > process.member.applied {
            self.seen.note(Sometimes::CatalogInstalled);
            // what follows the same entry is the leader's, and may be acknowledged
            if gateway.disk.term_at(length) != log[length - 1].term {
                gateway.disk.log = log;
                gateway.disk.synced = length;
            }
            gateway.disk.synced = gateway.disk.synced.max(length);
            gateway.disk.committed = length;
            process.member.commit = length;
            process.member.applied = length;
            process.catalog = catalog.clone();
            process.events.reset(catalog.revision());
            process.catalog_changed = true;
        }
        let term = gateway.disk.term;
        self.tell(at, leader, Message::Appended { term, matched: length });
    }

    /// A follower tells its leader what is safe with it and is the leader's.
    pub(super) fn say_appended(&mut self, at: Addr, leader: Addr) {
        let gateway = &self.gateways[at];
        let (disk, member) = (&gateway.disk, &gateway.process.as_ref().unwrap().member);
        // beyond what its own leader has said, the log may be that of an earlier one
        let safe = (member.commit + 1..=disk.synced).rfind(|index| disk.term_at(*index) == disk.term);
        let matched = safe.unwrap_or(member.commit.min(disk.synced));
        let term = disk.term;
        self.tell(at, leader, Message::Appended { term, matched });
    }

    fn matched(&mut self, from: Addr, at: Addr, term: u64, matched: usize) {
        let now = self.now;
        if !self.accept_term(at, term) || !self.process(at).member.leads {
            return;
        }
        if let Some(follower) = self.process(at).member.followers.get_mut(&from) {
            follower.heard = now;
            follower.matched = follower.matched.max(matched);
            follower.next = follower.next.max(follower.matched + 1);
        }
        self.count(at);
    }

    /// The leader looks how far a majority has got.
    pub(super) fn count(&mut self, at: Addr) {
        let gateway = &mut self.gateways[at];
        let member = &mut gateway.process.as_mut().unwrap().member;
        let mut lengths: Vec<usize> = member.followers.values().map(|follower| follower.matched).collect();
        lengths.push(gateway.disk.synced);
        lengths.sort_unstable();
        let safe = lengths[lengths.len() - 1 - PER_CLUSTER / 2];
        if safe > member.commit && gateway.disk.term_at(safe) == gateway.disk.term {
            member.commit = safe;
            self.apply_committed(at);
        }
    }
}
