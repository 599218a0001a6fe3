//! The balancer of one port of a service, with what is counted of it.

use super::counts::{BalanceMetrics, LineCounts};
use super::lock;
use crate::choose::Target;
use causeway_balance::{Balancer, Candidate, Choice, Class, Fault, Settings, Volume};
use causeway_model::{PortKey, ServiceName};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What is known of the endpoints of one port of a service, and of what it carries.
pub(crate) struct Line {
    name: String,
    balancer: Mutex<Balancer<Target>>,
    volume: Mutex<Volume>,
    counts: LineCounts,
}

impl Line {
    pub(super) fn new(
        settings: Settings,
        pace: f64,
        (service, port): (&ServiceName, PortKey),
        metrics: &BalanceMetrics,
    ) -> Self {
        Self {
            name: format!("{service}:{port}"),
            balancer: Mutex::new(Balancer::new(settings, pace)),
            volume: Mutex::default(),
            counts: metrics.line(service, port),
        }
    }

    /// What is counted of all.
    pub(crate) fn metrics(&self) -> &BalanceMetrics {
        self.counts.all()
    }

    /// What kind of traffic it carries lately.
    pub(crate) fn class(&self) -> Class {
        lock(&self.volume).class()
    }

    /// A connection carried `bytes`, both ways together.
    pub(super) fn carried(&self, bytes: u64) {
        let mut volume = lock(&self.volume);
        let before = volume.class();
        volume.ended(bytes);
        let class = volume.class();
        if class != before {
            tracing::debug!(service = self.name, ?class, "what a service carries is judged anew");
        }
    }

    /// Which of `candidates` gets a connection. Whoever calls this tells [`ended`](Self::ended).
    pub(super) fn choose(&self, candidates: &[Candidate<Target>]) -> Option<Choice<Target>> {
        let random = [rand::random(), rand::random(), rand::random()];
        let mut balancer = lock(&self.balancer);
        let choice = balancer.choose(candidates, Instant::now(), random)?;
        let ejected = balancer.ejected();
        drop(balancer);
        self.counts.set_ejected(ejected);
        self.counts.set_spilled(choice.spilled);
        self.metrics().picked(choice.tier.kind());
        if choice.trial {
            self.metrics().trials.inc();
        }
        tracing::debug!(
            service = self.name,
            endpoint = ?choice.key,
            tier = choice.tier.kind(),
            path = choice.tier.path,
            share = choice.share,
            trial = choice.trial,
            ejected,
            of = candidates.len(),
            "chose an endpoint"
        );
        Some(choice)
    }

    /// Whether a connection to `target` may be made without being asked for.
    pub(crate) fn may_connect(&self, target: Target) -> bool {
        lock(&self.balancer).may_connect(target, Instant::now())
    }

    pub(super) fn accepted(&self, target: Target, took: Duration) {
        lock(&self.balancer).accepted(target, took, Instant::now());
    }

    pub(super) fn answered(&self, target: Target, took: Option<Duration>) {
        lock(&self.balancer).answered(target, took, Instant::now());
    }

    pub(super) fn ended(&self, target: Target, trial: bool) {
        let mut balancer = lock(&self.balancer);
        balancer.ended(target, trial, Instant::now());
        let ejected = balancer.ejected();
        drop(balancer);
        self.counts.set_ejected(ejected);
    }

    /// `target` failed, in an attempt that began at `began`.
    pub(super) fn failed(&self, target: Target, fault: Fault, began: Instant) {
        let mut balancer = lock(&self.balancer);
        let Some(ejection) = balancer.failed(target, fault, (began, Instant::now()), rand::random()) else {
            return;
        };
        let ejected = balancer.ejected();
        drop(balancer);
        self.counts.set_ejected(ejected);
        self.metrics().ejection(ejection.fault.reason());
        tracing::debug!(
            service = self.name,
            endpoint = ?target,
            reason = ejection.fault.reason(),
            lasts = ?ejection.lasts,
            ejected,
            "ejected an endpoint"
        );
    }

    /// Whether `target` is ejected, or was and has not been tried since.
    #[cfg(test)]
    pub(crate) fn ejected(&self) -> usize {
        lock(&self.balancer).ejected()
    }
}
