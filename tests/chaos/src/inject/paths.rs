//! Faults of what is between gateways, and of the sidecar at the end of a path.

use super::Injector;
use crate::fault::{Kind, Planned};
use crate::relays::Lossy;
use rand::RngExt;
use rand::rngs::StdRng;

impl Injector {
    pub(super) fn lose(&mut self, planned: &Planned, lossy: [Lossy; 2]) {
        self.requests.cut(true);
        for (fleet, lossy) in self.fleets.iter().zip(lossy) {
            fleet.lose(lossy);
        }
        self.hold(planned);
        for fleet in &self.fleets {
            fleet.lose(Lossy::No);
        }
        self.requests.cut(false);
    }

    /// Cuts some of a cluster's gateways off from the others and from their sidecars: what is dialled to them does not arrive, or its
    /// answers do not come back. What they dial themselves passes, unless the other end is cut off, too.
    pub(super) fn part(&mut self, planned: &Planned, random: &mut StdRng) {
        let lossy = match planned.kind {
            Kind::PartOneWay if random.random_bool(0.5) => Lossy::Sent,
            Kind::PartOneWay => Lossy::Received,
            _ => Lossy::Both,
        };
        let members = self.fleets[planned.cluster].members.len();
        let first = random.random_range(0..members);
        let count = random.random_range(1..=members);
        let parted: Vec<usize> = (0..count).map(|number| (first + number) % members).collect();
        // a sidecar is attached to two gateways
        self.requests.cut(count > 1);
        for &index in &parted {
            self.fleets[planned.cluster].members[index].lose_near(lossy);
        }
        let names: Vec<&str> =
            parted.iter().map(|&index| self.fleets[planned.cluster].members[index].name()).collect();
        println!("           {} ({lossy:?})", names.join(", "));
        self.hold(planned);
        for member in &self.fleets[planned.cluster].members {
            member.lose_near(Lossy::No);
        }
        self.requests.cut(false);
    }

    #[track_caller]
    pub(super) fn kill_sidecar(&mut self, planned: &Planned) {
        self.requests.cut(true);
        self.server.process.kill();
        // it is the second cluster's, whichever was drawn
        self.hold(&Planned { cluster: 1, ..*planned });
        self.server.restart();
        self.server.wait_ready();
        self.requests.cut(false);
    }
}
