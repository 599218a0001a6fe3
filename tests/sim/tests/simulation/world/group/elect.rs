//! Who leads.

use super::Follower;
use crate::coverage::Sometimes;
use crate::world::{Addr, PER_CLUSTER, World};
use std::time::{Duration, Instant};

/// A leader that has not heard a majority for this long steps down.
const LOST: Duration = Duration::from_millis(800);
/// Who has heard a leader so lately does not vote for another one.
const LOYAL: Duration = Duration::from_millis(400);

impl World {
    /// Leaders speak or step down, others lose patience.
    pub(crate) fn step_group(&mut self, at: Addr) {
        let now = self.now;
        if self.gateways[at].disk.failed {
            return;
        }
        let member = &mut self.process(at).member;
        if !member.leads {
            if member.heard + member.patience <= now {
                self.stand(at);
            }
            return;
        }
        let reached = member.followers.values().filter(|follower| now < follower.heard + LOST).count() + 1;
        if reached > PER_CLUSTER / 2 {
            member.heard = now;
        } else if member.heard + LOST <= now {
            member.leads = false;
            member.leader = None;
            self.trace(|| format!("gateway {at} steps down"));
            return;
        }
        self.replicate(at);
    }

    /// `at` asks for the votes of those that it can reach.
    fn stand(&mut self, at: Addr) {
        let now = self.now;
        self.process(at).member.heard = now;
        self.new_patience(at);
        let voters: Vec<Addr> = self.siblings(at).filter(|voter| self.would_vote(*voter, at)).collect();
        if voters.len() < PER_CLUSTER / 2 {
            return;
        }
        let all = voters.iter().chain([&at]);
        let term = all.clone().map(|voter| self.gateways[*voter].disk.term).max().unwrap_or(0) + 1;
        for voter in voters.iter().chain([&at]) {
            self.gateways[*voter].disk.term = term;
            let member = &mut self.process(*voter).member;
            member.leads = false;
            member.leader = Some(at);
            member.heard = now;
        }
        self.lead(at);
    }

    fn would_vote(&self, voter: Addr, candidate: Addr) -> bool {
        let gateway = &self.gateways[voter];
        let log = |at: Addr| {
            let disk = &self.gateways[at].disk;
            (disk.term_at(disk.log.len()), disk.log.len())
        };
        gateway.runs()
            && !gateway.disk.failed
            && self.net.are_open(voter, candidate)
            && gateway.process.as_ref().is_some_and(|process| process.member.heard + LOYAL <= self.now)
            && log(candidate) >= log(voter)
    }

    fn lead(&mut self, at: Addr) {
        let next = self.gateways[at].disk.log.len() + 1;
        let new = |heard: Instant| Follower { next, matched: 0, heard };
        let followers = self.siblings(at).map(|sibling| (sibling, new(self.now))).collect();
        let term = self.gateways[at].disk.term;
        self.trace(|| format!("gateway {at} leads term {term}"));
        if term > 2 {
            self.seen.note(Sometimes::LeaderChanged);
        }
        let member = &mut self.process(at).member;
        member.leads = true;
        member.followers = followers;
        member.waiting.clear();
        self.append(at, None);
    }

    /// Takes note of a newer term; true if `term` is not older than the own one.
    pub(super) fn accept_term(&mut self, at: Addr, term: u64) -> bool {
        let gateway = &mut self.gateways[at];
        if term > gateway.disk.term {
            gateway.disk.term = term;
            let member = &mut gateway.process.as_mut().unwrap().member;
            member.leads = false;
            member.leader = None;
        }
        term == gateway.disk.term
    }
}
