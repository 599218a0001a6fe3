//! What a balancer knows of one endpoint.

use crate::Settings;
use crate::latency::Latency;
use crate::outlier::Outlier;
use std::time::{Duration, Instant};

/// The share with which a slow start begins.
const FIRST_SHARE: f64 = 0.1;
/// An endpoint that had fewer connections than others is given so many more than them at most: enough to make up for a short
/// time in which it was slow, and few beside what its turn in pairs, two of all endpoints, lets it have at once.
const CREDIT: f64 = 32.0;

/// The record of one endpoint.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// From the stream's header to the answer that it is accepted.
    pub(crate) accept: Latency,
    /// From the client's first byte to the first one of the answer.
    pub(crate) answer: Latency,
    /// Connections that are open, or being opened.
    pub(crate) in_flight: u32,
    /// Connections that it was given, for its weight.
    pub(crate) served: f64,
    pub(crate) outlier: Outlier,
    /// The best latencies of the candidates when it was chosen last, in seconds: to accept, and to answer.
    pub(crate) best: (f64, f64),
    /// Since when it takes part, if that was not always.
    joined: Option<Instant>,
    /// When it was last among the candidates.
    pub(crate) seen: Instant,
}

impl Endpoint {
    /// One that is known from `now` on. If others were before, it starts slowly.
    pub(crate) fn new(now: Instant, others: bool) -> Self {
        Self {
            accept: Latency::default(),
            answer: Latency::default(),
            in_flight: 0,
            served: 0.0,
            outlier: Outlier::default(),
            best: (0.0, 0.0),
            joined: others.then_some(now),
            seen: now,
        }
    }

    /// Lets it start slowly from now on, with what it was like before forgotten.
    pub(crate) fn rejoin(&mut self, now: Instant) {
        self.joined = Some(now);
        self.accept.clear();
        self.answer.clear();
    }

    /// The part of `weight` that counts at `now`.
    pub(crate) fn weight(&self, weight: f64, settings: &Settings, now: Instant) -> f64 {
        let Some(joined) = self.joined.filter(|_| !settings.slow_start.is_zero()) else { return weight };
        let part = now.saturating_duration_since(joined).as_secs_f64() / settings.slow_start.as_secs_f64();
        weight * part.clamp(FIRST_SHARE, 1.0)
    }

    /// What it has been given for its weight, when the most that another has is `most`: it may lag behind that by a few
    /// connections only, so that it gets no burst.
    pub(crate) fn credit(&mut self, weight: f64, most: f64) {
        self.served = self.served.max(most - CREDIT / weight);
    }

    /// How long it takes, in seconds, when the best of all candidates takes `best`.
    pub(crate) fn latency(&self, (accept, answer): (f64, f64), now: Instant) -> f64 {
        self.accept.estimate(accept, now) + self.answer.estimate(answer, now)
    }

    /// Whether nothing is lost when it is forgotten.
    pub(crate) fn is_over(&self, now: Instant, after: Duration) -> bool {
        self.in_flight == 0 && now.saturating_duration_since(self.seen) > after
    }
}
