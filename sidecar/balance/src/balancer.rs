//! The choice for one service.

mod eligible;

use crate::endpoint::Endpoint;
use crate::outlier::{Ejection, Fault};
use crate::pair::{Cost, draw};
use crate::spread::{Spread, TierLoad};
use crate::{Settings, Tier};
use eligible::{Eligible, Grade};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long an endpoint is remembered that is no candidate any more, and has no connection.
const REMEMBERED: Duration = Duration::from_secs(120);
/// How often those that are not remembered any more are looked for.
const TIDY: Duration = Duration::from_secs(10);
/// The latency that is assumed of an endpoint while none is known at all, in seconds.
const UNKNOWN: f64 = 0.0;

/// An endpoint that a connection may go to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate<K> {
    /// Which one.
    pub key: K,
    /// How near it is.
    pub tier: Tier,
    /// Its share of the load of its tier; at least 1.
    pub weight: u16,
    /// It takes connections, by what its cluster says.
    pub healthy: bool,
    /// Nobody suspects its cluster to be silent.
    pub reachable: bool,
    /// A connection to it stands.
    pub connected: bool,
    /// It was tried for this connection already.
    pub tried: bool,
}

/// What was chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice<K> {
    /// Which endpoint.
    pub key: K,
    /// Its tier.
    pub tier: Tier,
    /// The share of the load that its tier has, 0 to 1.
    pub share: f64,
    /// The share of all tiers but the nearest.
    pub spilled: f64,
    /// It was ejected, and this connection shows whether it is well again.
    pub trial: bool,
}

/// Chooses among the endpoints `K` of one service, and learns how they do.
///
/// After [`choose`](Self::choose) the caller says how it went: first [`accepted`](Self::accepted) or [`failed`](Self::failed), perhaps
/// [`answered`](Self::answered), and in the end [`ended`](Self::ended), exactly once for each choice.
#[derive(Debug)]
pub struct Balancer<K> {
    settings: Settings,
    endpoints: BTreeMap<K, Endpoint>,
    spread: Spread,
    tidied: Option<Instant>,
}

impl<K: Copy + Ord> Balancer<K> {
    /// Nothing is known yet. `pace` is this client's own number around 1, by which its returns differ from those of others.
    pub fn new(settings: Settings, pace: f64) -> Self {
        Self { settings, endpoints: BTreeMap::new(), spread: Spread::new(&settings, pace), tidied: None }
    }

    /// Which of `candidates` gets a connection at `now`: an untried one, if there is any that takes connections. `random` are
    /// three numbers from 0 to 1, without 1.
    pub fn choose(
        &mut self,
        candidates: &[Candidate<K>],
        now: Instant,
        random: [f64; 3],
    ) -> Option<Choice<K>> {
        self.know(candidates, now);
        let eligible = Eligible::of(candidates, |key| self.standing(key, now), self.settings.max_ejected);
        let loads: Vec<TierLoad> =
            eligible.tiers().map(|tier| self.load(candidates, &eligible, tier)).collect();
        let shares = self.spread.step(&loads, now);
        let near = shares.first().copied().unwrap_or_default();
        let parts: Vec<(Tier, f64)> = loads.iter().map(|load| load.tier).zip(shares).collect();
        let (open, trial) = eligible.open(candidates, &parts, random[0])?;
        let at = self.better(candidates, &open, now, [random[1], random[2]])?;
        let chosen = candidates.get(at)?;
        let endpoint = self.endpoints.get_mut(&chosen.key)?;
        endpoint.in_flight = endpoint.in_flight.saturating_add(1);
        if trial {
            endpoint.outlier.try_it(now);
        }
        let counts = endpoint.weight(f64::from(chosen.weight.max(1)), &self.settings, now);
        endpoint.served += 1.0 / counts;
        let share = parts.iter().find(|(tier, _)| *tier == chosen.tier).map_or(0.0, |(_, share)| *share);
        Some(Choice { key: chosen.key, tier: chosen.tier, share, spilled: (1.0 - near).max(0.0), trial })
    }

    /// The endpoint took the connection, after `took`.
    pub fn accepted(&mut self, key: K, took: Duration, now: Instant) {
        let Some(endpoint) = self.endpoints.get_mut(&key) else { return };
        if endpoint.outlier.accepted(&self.settings) {
            endpoint.rejoin(now);
        }
        endpoint.accept.sample(took, endpoint.best.0, now);
    }

    /// The first byte of the answer came, `took` after the client's first byte, if that was before it.
    pub fn answered(&mut self, key: K, took: Option<Duration>, now: Instant) {
        let Some(endpoint) = self.endpoints.get_mut(&key) else { return };
        endpoint.outlier.answered();
        if let Some(took) = took {
            endpoint.answer.sample(took, endpoint.best.1, now);
        }
    }

    /// The endpoint failed, in an attempt that began at `began`. Returns whether that ejects it. `random` is from 0 to 1.
    pub fn failed(
        &mut self,
        key: K,
        fault: Fault,
        (began, now): (Instant, Instant),
        random: f64,
    ) -> Option<Ejection> {
        let endpoint = self.endpoints.get_mut(&key)?;
        endpoint.outlier.failed(fault, (began, now), random, &self.settings)
    }

    /// A connection that was chosen has ended, or did not come about. `trial` is whether its choice was one: if nothing was said
    /// of the endpoint since, another connection will show whether it is well.
    pub fn ended(&mut self, key: K, trial: bool, now: Instant) {
        let Some(endpoint) = self.endpoints.get_mut(&key) else { return };
        endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
        if trial {
            endpoint.outlier.untried(now);
        }
    }

    /// Whether a connection between sidecars may be made to it without being asked for: it is not ejected, or its time is over.
    pub fn may_connect(&self, key: K, now: Instant) -> bool {
        self.endpoints
            .get(&key)
            .is_none_or(|endpoint| endpoint.outlier.is_in() || endpoint.outlier.is_due(now))
    }

    /// How many endpoints are ejected, or were and have not been tried since.
    pub fn ejected(&self) -> usize {
        self.endpoints.values().filter(|endpoint| !endpoint.outlier.is_in()).count()
    }

    /// How many endpoints are remembered.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// Whether `key` is remembered.
    pub fn contains(&self, key: K) -> bool {
        self.endpoints.contains_key(&key)
    }

    /// Connections of `key` that are open.
    pub fn in_flight(&self, key: K) -> u32 {
        self.endpoints.get(&key).map_or(0, |endpoint| endpoint.in_flight)
    }

    fn know(&mut self, candidates: &[Candidate<K>], now: Instant) {
        let others = !self.endpoints.is_empty();
        for candidate in candidates {
            let endpoint = self.endpoints.entry(candidate.key).or_insert_with(|| Endpoint::new(now, others));
            endpoint.seen = now;
        }
        if self.tidied.is_none_or(|at| now.saturating_duration_since(at) >= TIDY) {
            self.tidied = Some(now);
            self.endpoints.retain(|_, endpoint| !endpoint.is_over(now, REMEMBERED));
        }
    }

    fn standing(&self, key: K, now: Instant) -> Grade {
        let Some(outlier) = self.endpoints.get(&key).map(|endpoint| &endpoint.outlier) else {
            return Grade::In;
        };
        match outlier.until() {
            _ if outlier.is_in() => Grade::In,
            Some(until) if until <= now => Grade::Due(until),
            until => Grade::Out(until),
        }
    }

    fn load(&self, candidates: &[Candidate<K>], eligible: &Eligible, tier: Tier) -> TierLoad {
        let (mut total, mut available, mut in_flight, mut count) = (0.0, 0.0, 0.0, 0.0);
        for (at, candidate) in candidates.iter().enumerate().filter(|(_, candidate)| candidate.tier == tier) {
            let weight = f64::from(candidate.weight.max(1));
            total += weight;
            if eligible.takes(at) {
                available += weight;
                in_flight += f64::from(self.in_flight(candidate.key));
                count += 1.0;
            }
        }
        TierLoad { tier, total, available, in_flight: if count > 0.0 { in_flight / count } else { 0.0 } }
    }

    /// The better of two that are drawn from those at `open`.
    fn better(
        &mut self,
        candidates: &[Candidate<K>],
        open: &[usize],
        now: Instant,
        random: [f64; 2],
    ) -> Option<usize> {
        let open: Vec<(usize, &Candidate<K>)> =
            open.iter().filter_map(|at| Some((*at, candidates.get(*at)?))).collect();
        let weight = |candidate: &Candidate<K>| f64::from(candidate.weight.max(1));
        let served = |key: &K| self.endpoints.get(key).map_or(0.0, |endpoint| endpoint.served);
        let most = open.iter().map(|(_, candidate)| served(&candidate.key)).fold(0.0, f64::max);
        let mut weights = Vec::with_capacity(open.len());
        for (_, candidate) in &open {
            let endpoint = self.endpoints.get_mut(&candidate.key)?;
            endpoint.credit(weight(candidate), most);
            weights.push(endpoint.weight(weight(candidate), &self.settings, now));
        }
        let (first, second) = draw(&weights, random)?;
        let best = self.best(&open);
        let mean = weights.iter().sum::<f64>() / f64::from(u32::try_from(weights.len()).unwrap_or(1));
        let cost = |at: usize| {
            let endpoint = self.endpoints.get(&open.get(at)?.1.key)?;
            let load = f64::from(endpoint.in_flight) / weights.get(at)? + 1.0 / mean;
            Some(Cost { latency: endpoint.latency(best, now), load, served: endpoint.served })
        };
        let winner = if cost(second)?.beats(&cost(first)?) { second } else { first };
        let (at, chosen) = *open.get(winner)?;
        self.endpoints.get_mut(&chosen.key)?.best = best;
        Some(at)
    }

    /// The best latencies that are known of any.
    fn best(&self, open: &[(usize, &Candidate<K>)]) -> (f64, f64) {
        let least = |latency: fn(&Endpoint) -> Option<f64>| {
            let known = open.iter().filter_map(|(_, candidate)| latency(self.endpoints.get(&candidate.key)?));
            known.reduce(f64::min).unwrap_or(UNKNOWN)
        };
        (least(|endpoint| endpoint.accept.known()), least(|endpoint| endpoint.answer.known()))
    }
}
