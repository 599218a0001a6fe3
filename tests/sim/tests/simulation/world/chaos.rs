//! What goes wrong.

use super::{Addr, World};
use causeway_model::WorkloadId;
use causeway_wire::link::Exports;
use std::time::Duration;

/// A trust domain that is no cluster's.
pub(crate) const FOREIGN: &str = "foreign.mesh";

impl World {
    /// One fault, or one of the things that people and workloads do.
    pub(crate) fn disturb(&mut self) {
        match self.rng.below(100) {
            0..36 => self.write_something(),
            36..52 => self.disturb_workloads(),
            52..62 => self.disturb_process(),
            62..70 => self.partition(),
            70..86 => self.mend(),
            86..88 => self.disturb_clock(),
            88..90 => {
                let at = self.any_gateway();
                self.fail_disk(at);
            }
            90..92 => {
                let (a, b) = (self.any_cluster(), self.any_cluster());
                if a != b {
                    self.change_link(a, b);
                }
            }
            92..94 => self.net.loss = self.rng.below(30),
            _ => self.strike_leader(),
        }
    }

    fn any_gateway(&mut self) -> Addr {
        self.rng.index(self.gateways.len())
    }

    fn any_cluster(&mut self) -> usize {
        self.rng.index(self.clusters.len())
    }

    fn disturb_workloads(&mut self) {
        let ids: Vec<WorkloadId> = self.workloads.keys().copied().collect();
        let (what, id) = (self.rng.below(10), self.rng.pick(&ids));
        match (what, id) {
            (3..5, Some(id)) => self.die(id, false),
            (5, Some(id)) => self.die(id, true),
            (6..9, Some(id)) => self.change_health(id),
            (9, Some(id)) => self.freeze(id),
            _ => {
                let cluster = self.any_cluster();
                self.birth(cluster);
            }
        }
    }

    fn disturb_process(&mut self) {
        let at = self.any_gateway();
        match self.rng.below(4) {
            0 => {
                let length = self.rng.ms(300, 6000);
                self.pause(at, length);
            }
            1 => {
                self.kill(at);
                self.start(at);
            }
            _ => self.kill(at),
        }
    }

    /// A leader is given something to do, and dies, stands still or is cut off before it is done.
    fn strike_leader(&mut self) {
        let cluster = self.any_cluster();
        let Some(leader) = self.leader_of(cluster) else { return };
        let siblings = self.members(cluster).filter(|at| *at != leader);
        match self.rng.below(5) {
            0 => siblings.for_each(|sibling| self.net.block(leader, sibling)),
            1 => siblings.for_each(|sibling| {
                self.net.block(leader, sibling);
                self.net.block(sibling, leader);
            }),
            2 => self.kill(leader),
            3 => {
                let delay = self.rng.ms(10, 100);
                self.later(delay, super::Arrival::PowerCut { cluster });
            }
            _ => self.pause(leader, Duration::from_millis(2500)),
        }
        // clients that have not heard of it
        for _ in 0..2 {
            let body = causeway_catalog::RemoveService { name: super::facts::service(self.rng.below(9)) };
            let (clock, until) = (self.wall_secs(leader), self.now + Duration::from_secs(2));
            let write = self.oracle.asked(cluster, clock, body, until);
            self.later(Duration::from_millis(1), super::Arrival::Proposed { write, at: leader });
        }
    }

    /// All gateways of a cluster die at once, and are started again.
    pub(crate) fn cut_power(&mut self, cluster: usize) {
        self.trace(|| format!("the power of cluster {cluster} is cut"));
        let members = self.members(cluster);
        members.clone().for_each(|member| self.kill(member));
        members.for_each(|member| self.start(member));
    }

    fn partition(&mut self) {
        let (a, b) = (self.any_gateway(), self.any_gateway());
        let (x, y) = (self.any_cluster(), self.any_cluster());
        match self.rng.below(5) {
            _ if a == b => {}
            0 | 1 => self.net.block(a, b),
            2 => {
                self.net.block(a, b);
                self.net.block(b, a);
            }
            3 => (0..self.gateways.len()).for_each(|other| self.net.block(a, other)),
            _ if x == y => {}
            _ => {
                self.trace(|| format!("clusters {x} and {y} are cut"));
                for a in self.members(x) {
                    for b in self.members(y) {
                        self.net.block(a, b);
                        self.net.block(b, a);
                    }
                }
            }
        }
    }

    /// Something is repaired.
    fn mend(&mut self) {
        match self.rng.below(3) {
            0 => {
                let at = self.any_gateway();
                self.repair(at);
            }
            1 => {
                let dead: Vec<Addr> =
                    (0..self.gateways.len()).filter(|at| self.process_id(*at).is_none()).collect();
                if let Some(at) = self.rng.pick(&dead) {
                    self.start(at);
                }
            }
            _ => {
                let blocked: Vec<(Addr, Addr)> = self.net.blocked().collect();
                let Some((from, to)) = self.rng.pick(&blocked) else { return };
                let (x, y) = (self.gateways[from].cluster, self.gateways[to].cluster);
                for (a, b) in blocked {
                    let between = [self.gateways[a].cluster, self.gateways[b].cluster];
                    if between == [x, y] || between == [y, x] {
                        self.net.open(a, b);
                    }
                }
            }
        }
    }

    fn disturb_clock(&mut self) {
        let at = self.any_gateway();
        self.jump(at);
    }

    /// The disk of a gateway is mended, which takes a restart.
    pub(crate) fn repair(&mut self, at: Addr) {
        if self.gateways[at].disk.failed {
            self.kill(at);
            self.gateways[at].disk.failed = false;
            self.start(at);
        }
    }

    /// Takes something out of a frame of exports on its way, or puts something in that its sender may not say.
    pub(crate) fn spoil(&mut self, conn: usize, side: usize, frame: &mut Exports) {
        let [sender, listener] =
            [side, 1 - side].map(|side| self.conn(conn).ends[side].addr / super::PER_CLUSTER);
        // what is beyond the cap is not held, so no digest can tell what else is missing
        if !self.spoiling
            || self.capped == Some((listener, sender))
            || frame.snapshot.is_some()
            || !self.rng.percent(10)
        {
            return;
        }
        let lost = match self.rng.below(3) {
            0 => frame.upserts.pop().is_some(),
            1 => frame.removed.pop().is_some(),
            _ => {
                let Some(mut lie) = frame.upserts.first().cloned() else { return };
                lie.name = "lie.shop".parse().unwrap();
                lie.handle.0 ^= 1 << 60;
                lie.identities = vec![format!("spiffe://{FOREIGN}/ns/shop/sa/thief").parse().unwrap()];
                frame.upserts.push(lie);
                true
            }
        };
        if let Some((peer, node)) = self.listener(conn, side).filter(|_| lost) {
            peer.spoilt.insert(node);
        }
    }
}
