//! A run: disturbance, then peace, then the account.

use super::World;
use super::facts;
use crate::invariants::{Invariant, Verdict, Violation};
use std::time::Duration;

/// How long everything may go wrong.
const DISTURBANCE: Duration = Duration::from_secs(16);
/// How long it may take, once everything is healed, until clients are answered: one that asked before gives up after 2 s,
/// and one that asks before there is a leader asks again after as long.
const ANSWERED: Duration = Duration::from_secs(8);
/// Within which time everything agrees again.
const HEALED: Duration = Duration::from_secs(10);

impl World {
    /// The whole of a run.
    pub(crate) fn live(&mut self) -> Verdict {
        self.run(Duration::from_secs(2))?;
        let end = self.now + DISTURBANCE;
        while self.now < end {
            self.disturb();
            let pause = self.rng.ms(10, 200);
            self.run(pause)?;
        }
        self.heal();
        self.agree_on_links()?;
        self.run(HEALED)?;
        self.check_healed()
    }

    fn heal(&mut self) {
        self.trace(|| "everything is healed".to_owned());
        self.net.heal();
        self.spoiling = false;
        self.thaw();
        for at in 0..self.gateways.len() {
            self.gateways[at].paused = None;
            self.repair(at);
            self.start(at);
        }
    }

    /// The operators of both sides of a link see to it that it is there on both or on none, because what they asked for
    /// amid the disturbance may have been lost on one side.
    fn agree_on_links(&mut self) -> Verdict {
        let end = self.now + ANSWERED;
        loop {
            let odd = self.odd_links();
            if odd.is_empty() && !self.is_waiting() {
                return Ok(());
            }
            if self.now >= end {
                let what = format!("clients are not answered {ANSWERED:?} after healing");
                return Err(Violation::new(Invariant::AcknowledgedWritesSurvive, what));
            }
            for (here, there) in odd.into_iter().filter(|_| !self.is_waiting()).collect::<Vec<_>>() {
                self.set_link(here, there, false);
            }
            self.run(Duration::from_millis(100))?;
        }
    }

    /// Links that are there on one side only.
    fn odd_links(&self) -> Vec<(usize, usize)> {
        let has = |here: usize, there: usize| {
            self.oracle.clusters[here].reference.link(&facts::name(there)).is_some()
        };
        let all = 0..self.clusters.len();
        let pairs = all.clone().flat_map(|here| all.clone().map(move |there| (here, there)));
        pairs.filter(|(here, there)| here != there && has(*here, *there) && !has(*there, *here)).collect()
    }
}
