//! Endpoints, a client and the time.

use causeway_balance::{Balancer, Candidate, Choice, Fault, Settings, Tier};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

pub(crate) const SEEDS: u64 = 100;

pub(crate) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut one = Self(seed);
        // the streams of neighbours must not be one another's, shifted
        one.0 = one.next();
        one
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// From 0 to 1, without 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are kept")]
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    pub(crate) fn three(&mut self) -> [f64; 3] {
        [self.unit(), self.unit(), self.unit()]
    }
}

/// How a connection to an endpoint goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// Its application refuses.
    Refuses,
    /// It takes a connection and resets it.
    Breaks,
    /// It does not answer within a second.
    Hangs,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    pub(crate) tier: Tier,
    pub(crate) weight: u16,
    /// How long it takes on average.
    pub(crate) latency: Duration,
    pub(crate) mood: Mood,
    pub(crate) healthy: bool,
    pub(crate) reachable: bool,
}

pub(crate) const ZONE: Tier = Tier { stale: false, last_resort: false, distance: 0, path: 0 };
pub(crate) const REMOTE: Tier = Tier { stale: false, last_resort: false, distance: 2, path: 9 };
pub(crate) const FARTHER: Tier = Tier { stale: false, last_resort: false, distance: 2, path: 12 };

impl Server {
    pub(crate) fn new(tier: Tier, latency: Duration) -> Self {
        Self { tier, weight: 100, latency, mood: Mood::Well, healthy: true, reachable: true }
    }
}

/// What one connection met.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    pub(crate) by: u32,
    pub(crate) tier: Tier,
    pub(crate) at: Duration,
}

/// One client and its endpoints.
pub(crate) struct World {
    pub(crate) servers: BTreeMap<u32, Server>,
    pub(crate) balancer: Balancer<u32>,
    pub(crate) random: Random,
    pub(crate) log: Vec<Served>,
    start: Instant,
    now: Instant,
    open: Vec<(Instant, Choice<u32>)>,
}

impl World {
    pub(crate) fn new(seed: u64, settings: Settings, servers: impl IntoIterator<Item = Server>) -> Self {
        let mut random = Random::new(seed);
        let pace = 0.8 + 0.4 * random.unit();
        let start = Instant::now();
        Self {
            servers: (0..).zip(servers).collect(),
            balancer: Balancer::new(settings, pace),
            random,
            log: Vec::new(),
            start,
            now: start,
            open: Vec::new(),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        self.close(until);
        self.now = until;
    }

    /// Ends what is over at `until`.
    fn close(&mut self, until: Instant) {
        self.open.sort_by_key(|(at, _)| *at);
        while self.open.first().is_some_and(|(at, _)| *at <= until) {
            let (at, choice) = self.open.remove(0);
            self.balancer.ended(choice.key, choice.trial, at);
        }
    }

    fn candidates(&self, tried: &BTreeSet<u32>) -> Vec<Candidate<u32>> {
        let candidate = |(key, server): (&u32, &Server)| Candidate {
            key: *key,
            tier: server.tier,
            weight: server.weight,
            healthy: server.healthy,
            reachable: server.reachable,
            connected: true,
            tried: tried.contains(key),
        };
        self.servers.iter().map(candidate).collect()
    }

    pub(crate) fn choose(&mut self, tried: &BTreeSet<u32>) -> Option<Choice<u32>> {
        let random = self.random.three();
        self.balancer.choose(&self.candidates(tried), self.now, random)
    }

    /// One connection that ends before the next begins, with three attempts. Returns whether it was served.
    pub(crate) fn connect(&mut self) -> bool {
        self.attempts(None)
    }

    /// One connection that stays open for `held`, while the time stands still.
    pub(crate) fn hold(&mut self, held: Duration) -> bool {
        self.attempts(Some(held))
    }

    fn attempts(&mut self, held: Option<Duration>) -> bool {
        let mut tried = BTreeSet::new();
        for _ in 0..3 {
            let Some(choice) = self.choose(&tried) else { return false };
            tried.insert(choice.key);
            let well = self.attempt(choice, held);
            self.log.push(Served { by: choice.key, tier: choice.tier, at: self.elapsed() });
            if well {
                return true;
            }
        }
        false
    }

    /// A latency with a tail: half of it is fixed, the rest is exponential, and one in a hundred waits for something else.
    fn latency(&mut self, mean: Duration) -> Duration {
        let tail = -(1.0 - self.random.unit()).ln();
        let stall = if self.random.unit() < 0.01 { ms(40) } else { Duration::ZERO };
        mean.mul_f64(0.5 + 0.5 * tail) + stall
    }

    fn attempt(&mut self, choice: Choice<u32>, held: Option<Duration>) -> bool {
        let (server, began) = (self.servers[&choice.key], self.now);
        let took = self.latency(server.latency);
        let (passes, fault) = match server.mood {
            Mood::Well => (took, None),
            Mood::Refuses => (took, Some(Fault::Refused)),
            Mood::Breaks => (took, Some(Fault::Broken)),
            Mood::Hangs => (ms(1000), Some(Fault::Silent)),
        };
        let end = began + passes;
        if held.is_none() {
            self.close(end);
            self.now = end;
        }
        if let Some(fault) = fault {
            let random = self.random.unit();
            self.balancer.failed(choice.key, fault, (began, end), random);
            self.balancer.ended(choice.key, choice.trial, end);
            return false;
        }
        self.balancer.accepted(choice.key, took / 5, end);
        self.balancer.answered(choice.key, Some(took), end);
        match held {
            Some(held) => self.open.push((end + held, choice)),
            None => self.balancer.ended(choice.key, choice.trial, end),
        }
        true
    }

    /// How many connections each server got from `from` on.
    pub(crate) fn counts(&self, from: Duration) -> BTreeMap<u32, usize> {
        let mut counts: BTreeMap<u32, usize> = self.servers.keys().map(|key| (*key, 0)).collect();
        for served in self.log.iter().filter(|served| served.at >= from) {
            *counts.entry(served.by).or_default() += 1;
        }
        counts
    }
}
