//! The network: which directions are dead, and how long everything takes.

use super::{Addr, PER_CLUSTER};
use crate::rng::Rng;
use std::collections::BTreeSet;
use std::time::Duration;

/// Retransmission makes a loss a delay for a connection; what goes without one is lost.
pub(crate) struct Net {
    /// Directions in which nothing arrives.
    blocked: BTreeSet<(Addr, Addr)>,
    /// Of 100 packets, how many are lost.
    pub(crate) loss: u64,
}

impl Net {
    pub(crate) fn new() -> Self {
        Self { blocked: BTreeSet::new(), loss: 1 }
    }

    pub(crate) fn is_open(&self, from: Addr, to: Addr) -> bool {
        !self.blocked.contains(&(from, to))
    }

    pub(crate) fn are_open(&self, a: Addr, b: Addr) -> bool {
        self.is_open(a, b) && self.is_open(b, a)
    }

    pub(crate) fn block(&mut self, from: Addr, to: Addr) {
        self.blocked.insert((from, to));
    }

    pub(crate) fn open(&mut self, from: Addr, to: Addr) {
        self.blocked.remove(&(from, to));
    }

    pub(crate) fn blocked(&self) -> impl Iterator<Item = (Addr, Addr)> {
        self.blocked.iter().copied()
    }

    pub(crate) fn heal(&mut self) {
        self.blocked.clear();
        self.loss = 0;
    }

    /// How long a packet takes.
    pub(crate) fn delay(&self, rng: &mut Rng, from: Addr, to: Addr) -> Duration {
        let near = from / PER_CLUSTER == to / PER_CLUSTER;
        let flight = if near { rng.ms(1, 5) } else { rng.ms(10, 80) };
        if rng.percent(self.loss) { flight + rng.ms(50, 800) } else { flight }
    }
}
