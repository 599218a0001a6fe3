//! The clocks of the nodes, which are wrong and jump. Only what asks for the time of day sees them: leases and timeouts
//! go by monotonic time.

use super::{Addr, World};
use crate::coverage::Sometimes;

/// When every run begins, in milliseconds since the Unix epoch.
const BEGIN: u64 = 1_700_000_000_000;

impl World {
    /// What the clock of the gateway at `at` says, in milliseconds since the Unix epoch.
    pub(crate) fn wall_ms(&self, at: Addr) -> u64 {
        let passed = u64::try_from((self.now - self.start).as_millis()).unwrap();
        (BEGIN + passed).saturating_add_signed(self.gateways[at].clock_error_ms)
    }

    /// The same in seconds.
    pub(crate) fn wall_secs(&self, at: Addr) -> u64 {
        self.wall_ms(at) / 1000
    }

    /// Sets a clock to something within five minutes of the truth.
    pub(crate) fn jump(&mut self, at: Addr) {
        let error = i64::try_from(self.rng.below(600_000)).unwrap() - 300_000;
        let before = std::mem::replace(&mut self.gateways[at].clock_error_ms, error);
        self.trace(|| format!("clock of gateway {at} jumps by {} ms", error - before));
        if error < before {
            self.seen.note(Sometimes::ClockSetBack);
        }
    }
}
