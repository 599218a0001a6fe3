//! One direction as a pure machine: datagrams and time go in, datagrams that are due come out.
//!
//! It knows no socket and reads no clock, so its behaviour is tested in virtual time.

use crate::Impairment;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// IPv4 and UDP headers, which a real bottleneck carries too.
const HEADERS: u64 = 28;

/// Bytes on their way in one direction at most, whatever the settings: 2 s at 1 Gbit/s.
const MAX_IN_FLIGHT: u64 = 256 << 20;

/// What one direction has done since the relay started, in datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Received, whatever became of them.
    pub received: u64,
    /// Sent on.
    pub forwarded: u64,
    /// Lost at random.
    pub lost: u64,
    /// Dropped because the queue before the bottleneck was full, or 256 MiB were on their way.
    pub queue_dropped: u64,
    /// Dropped because the direction was cut.
    pub cut: u64,
    /// Dropped because the system would not send them, or their sender's flow was gone or one too many.
    pub failed: u64,
}

/// A datagram and the flow that it belongs to.
#[derive(Debug)]
pub(crate) struct Packet {
    /// The sender's flow, as `Flows` numbers them.
    pub(crate) flow: u64,
    /// The payload.
    pub(crate) data: Box<[u8]>,
}

/// A packet on its way; the earliest is the greatest, as `BinaryHeap` wants it.
#[derive(Debug)]
struct Due {
    at: Instant,
    sequence: u64,
    packet: Packet,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Due {}

/// One direction.
#[derive(Debug)]
pub(crate) struct Pipe {
    impairment: Impairment,
    random: StdRng,
    /// When the bottleneck has sent all that it accepted.
    busy_until: Option<Instant>,
    heap: BinaryHeap<Due>,
    in_flight: u64,
    sequence: u64,
    counters: Counters,
}

impl Pipe {
    pub(crate) fn new(impairment: Impairment, seed: u64) -> Self {
        Self {
            impairment,
            random: StdRng::seed_from_u64(seed),
            busy_until: None,
            heap: BinaryHeap::new(),
            in_flight: 0,
            sequence: 0,
            counters: Counters::default(),
        }
    }

    pub(crate) fn impairment(&self) -> Impairment {
        self.impairment
    }

    /// Replaces the settings. What was accepted keeps the time at which it is due; only a cut concerns it too.
    pub(crate) fn set(&mut self, impairment: Impairment) {
        self.impairment = impairment;
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes a datagram that arrived at `now`.
    pub(crate) fn offer(&mut self, now: Instant, packet: Packet) {
        self.counters.received += 1;
        // drawn for every datagram, so that the fate of the n-th depends on n and not on what was set before it
        let (loss, jitter) = (self.random.random::<f64>(), self.random.random::<f64>());
        let size = packet.data.len() as u64;
        if self.impairment.cut {
            self.counters.cut += 1;
        } else if loss < self.impairment.loss {
            self.counters.lost += 1;
        } else if self.in_flight + size > MAX_IN_FLIGHT {
            self.counters.queue_dropped += 1;
        } else if let Some(departure) = self.pass_bottleneck(now, size + HEADERS) {
            let at = departure + self.impairment.delay + self.impairment.jitter.mul_f64(jitter);
            self.in_flight += size;
            self.sequence += 1;
            self.heap.push(Due { at, sequence: self.sequence, packet });
        } else {
            self.counters.queue_dropped += 1;
        }
    }

    /// When the bottleneck has sent `size` more bytes, or `None` if they do not fit into its queue.
    fn pass_bottleneck(&mut self, now: Instant, size: u64) -> Option<Instant> {
        let Some(rate) = self.impairment.rate else { return Some(now) };
        let start = self.busy_until.map_or(now, |busy| busy.max(now));
        let waiting = (start - now).as_nanos() * u128::from(rate.get()) / 8_000_000_000;
        if waiting + u128::from(size) > u128::from(self.impairment.queue) {
            return None;
        }
        let nanos = u128::from(size) * 8_000_000_000 / u128::from(rate.get());
        let departure = start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX >> 8));
        self.busy_until = Some(departure);
        Some(departure)
    }

    /// The next datagram that is due at `now`. It counts as forwarded unless `send_failed` takes that back.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Packet> {
        while self.heap.peek().is_some_and(|due| due.at <= now) {
            let packet = self.heap.pop()?.packet;
            self.in_flight -= packet.data.len() as u64;
            if self.impairment.cut {
                self.counters.cut += 1;
                continue;
            }
            self.counters.forwarded += 1;
            return Some(packet);
        }
        None
    }

    /// When `poll` will have something, unless more is offered.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.heap.peek().map(|due| due.at)
    }

    /// `count` datagrams that `poll` gave could not be sent.
    pub(crate) fn send_failed(&mut self, count: u64) {
        self.counters.forwarded -= count;
        self.counters.failed += count;
    }

    /// `count` datagrams were received that belong to no flow.
    pub(crate) fn no_flow(&mut self, count: u64) {
        self.counters.received += count;
        self.counters.failed += count;
    }
}

#[cfg(test)]
mod tests;
