//! What a direction does to the datagrams that pass it.

use std::num::NonZeroU64;
use std::time::Duration;

/// A direction of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From those who send to the listening address, to the target.
    Forward,
    /// From the target back to them.
    Back,
}

/// What one direction does to the datagrams that pass it, in this order: cut, random loss, bottleneck, delay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Impairment {
    /// One-way delay, added after the bottleneck.
    pub delay: Duration,
    /// Up to this much more delay, evenly distributed; datagrams may overtake each other by it.
    pub jitter: Duration,
    /// The share of datagrams lost at random: 0 none, 1 all.
    pub loss: f64,
    /// The rate of the bottleneck in bits per second, counting 28 bytes of headers a datagram; `None` has no bottleneck.
    pub rate: Option<NonZeroU64>,
    /// Bytes that wait before the bottleneck at most; what does not fit is dropped. Without a rate it says nothing.
    pub queue: u64,
    /// Nothing gets through, and what is on its way is lost when it would arrive.
    pub cut: bool,
}

impl Impairment {
    /// No impairment at all; the queue is 4 MiB if a rate is set later.
    pub const CLEAR: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        loss: 0.0,
        rate: None,
        queue: 4 << 20,
        cut: false,
    };

    /// Nothing gets through.
    pub const CUT: Self = Self { cut: true, ..Self::CLEAR };

    /// The same with this one-way delay.
    #[must_use]
    pub const fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same with up to this much more delay.
    #[must_use]
    pub const fn with_jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// The same with this random loss, a fraction of 1.
    #[must_use]
    pub const fn with_loss(mut self, loss: f64) -> Self {
        self.loss = loss;
        self
    }

    /// The same with a bottleneck of `rate` bits per second and `queue` bytes before it.
    #[must_use]
    pub const fn with_rate(mut self, rate: NonZeroU64, queue: u64) -> Self {
        self.rate = Some(rate);
        self.queue = queue;
        self
    }
}

impl Default for Impairment {
    fn default() -> Self {
        Self::CLEAR
    }
}
