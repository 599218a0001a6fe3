//! What this sidecar knows of the endpoints that it calls, for all services and the connections to them.
//!
//! Owns a balancer for each port of each service in use, which clusters are silent, how far they are, and what is counted of
//! all that. How one is chosen is `causeway-balance`'s; connecting, and trying again, is `outbound`'s.

mod counts;
mod fault;
mod line;
mod paths;
mod pick;

pub(crate) use counts::BalanceMetrics;
pub(crate) use fault::{fault_of, fault_of_end};
pub(crate) use line::Line;
pub(crate) use pick::Pick;

use crate::choose::Target;
use crate::config::BalanceConfig;
use crate::failure::Failure;
use crate::peer::Peer;
use causeway_balance::{Fault, Suspects};
use causeway_model::{ClusterId, PortKey, ServiceName};
use causeway_wire::CloseCode;
use paths::Paths;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// The most ports of services that are remembered while no connection to them is open.
const MAX_LINES: usize = 1024;
/// However far a cluster is, so many round trips to it must have passed before it is suspected.
const SUSPECT_ROUND_TRIPS: u32 = 5;

#[derive(Default)]
struct Lines {
    by_service: FxHashMap<ServiceName, Vec<(PortKey, Arc<Line>)>>,
    count: usize,
}

/// The balancers of all services, and what they share.
pub(crate) struct Balances {
    pub(crate) config: BalanceConfig,
    own: ClusterId,
    /// This sidecar's own number around 1, by which its returns differ from those of others.
    pace: f64,
    metrics: BalanceMetrics,
    /// Whether any gateway answers. While none does, nobody else is to blame for anything.
    gateways: watch::Receiver<bool>,
    lines: Mutex<Lines>,
    suspects: Mutex<Silence>,
    /// How many clusters are suspected, to be read without the lock.
    suspected: AtomicUsize,
    /// Wakes connections that wait for a cluster when one is suspected.
    told: Notify,
    paths: Mutex<Paths>,
}

/// Which clusters are silent, and were.
#[derive(Default)]
struct Silence {
    suspects: Suspects<ClusterId, Target>,
    /// When each was suspected last.
    last: FxHashMap<ClusterId, Instant>,
}

/// What was received of a cluster until now: shows later whether anything was since.
pub(crate) struct Ear(Vec<(Arc<Peer>, u64)>);

impl Ear {
    /// Listens to `peers` from now on.
    pub(crate) fn new(peers: impl Iterator<Item = Arc<Peer>>) -> Self {
        Self(
            peers
                .map(|peer| {
                    let count = peer.received();
                    (peer, count)
                })
                .collect(),
        )
    }

    /// Whether anything was heard.
    pub(crate) fn heard(&self) -> bool {
        self.0.iter().any(|(peer, before)| peer.received() != *before)
    }
}

/// What an endpoint that did not answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is to blame, or nobody is.
    Known,
    /// Its whole cluster is suspected from now on, which was not before.
    Suspected,
}

impl Balances {
    /// Nothing is known yet. `own` is this sidecar's cluster, and `random` from 0 to 1.
    pub(crate) fn new(
        config: BalanceConfig,
        own: ClusterId,
        metrics: BalanceMetrics,
        gateways: watch::Receiver<bool>,
        random: f64,
    ) -> Self {
        Self {
            config,
            own,
            pace: 0.8 + 0.4 * random,
            metrics,
            gateways,
            lines: Mutex::default(),
            suspects: Mutex::default(),
            suspected: AtomicUsize::new(0),
            told: Notify::new(),
            paths: Mutex::default(),
        }
    }

    /// What is known of the endpoints of `port` of `service`.
    pub(crate) fn line(&self, service: &ServiceName, port: PortKey) -> Arc<Line> {
        let mut lines = lock(&self.lines);
        let known = lines.by_service.get(service).and_then(|lines| lines.iter().find(|(of, _)| *of == port));
        if let Some((_, line)) = known {
            return Arc::clone(line);
        }
        if lines.count >= MAX_LINES {
            // whoever has a connection holds its line
            let unused = |line: &Arc<Line>| Arc::strong_count(line) == 1;
            lines.by_service.values_mut().for_each(|lines| lines.retain(|(_, line)| !unused(line)));
            lines.by_service.retain(|_, lines| !lines.is_empty());
            lines.count = lines.by_service.values().map(Vec::len).sum();
        }
        let line = Arc::new(Line::new(self.config.settings(), self.pace, (service, port), &self.metrics));
        lines.by_service.entry(service.clone()).or_default().push((port, Arc::clone(&line)));
        lines.count += 1;
        line
    }

    /// Whether `cluster` is this sidecar's own. Its endpoints are reached one by one, so it is never suspected as a whole.
    pub(crate) fn is_own(&self, cluster: ClusterId) -> bool {
        cluster == self.own
    }

    /// Whether `cluster` is suspected to be silent.
    pub(crate) fn is_suspect(&self, cluster: ClusterId) -> bool {
        self.suspected.load(Relaxed) > 0 && lock(&self.suspects).suspects.contains(cluster)
    }

    /// Waits until a cluster is suspected.
    pub(crate) async fn suspicion(&self) {
        self.told.notified().await;
    }

    /// The class of the path to `cluster`.
    pub(crate) fn path(&self, cluster: ClusterId) -> u8 {
        lock(&self.paths).class(cluster)
    }

    /// Measures the paths to clusters by the connections that stand, now and again.
    pub(crate) fn measure(&self, peers: impl FnOnce() -> Vec<Arc<Peer>>) {
        lock(&self.paths).measure(peers, Instant::now());
    }

    /// How long nothing may be heard of `cluster` before it is suspected. One that nobody knows how far it is gets an attempt's time.
    pub(crate) fn suspect_after(&self, cluster: ClusterId) -> Duration {
        let least = self.config.suspect_after.get();
        match lock(&self.paths).round_trip(cluster) {
            Some(rtt) => least.max(rtt.saturating_mul(SUSPECT_ROUND_TRIPS)),
            None if self.is_own(cluster) => least,
            None => least.max(self.config.attempt_timeout.get()),
        }
    }

    /// Something was heard of `cluster`, of its endpoint `target` if that is known.
    pub(crate) fn heard(&self, cluster: ClusterId, target: Option<Target>) {
        if self.suspected.load(Relaxed) == 0 {
            return;
        }
        let now = Instant::now();
        let mut silence = lock(&self.suspects);
        let Some(blamed) = silence.suspects.heard(cluster, target, now) else { return };
        silence.last.insert(cluster, now);
        self.count_suspects(&silence);
        drop(silence);
        tracing::info!(%cluster, "a silent cluster is heard again");
        for (target, since) in blamed {
            self.failed(target, Fault::Silent, since);
        }
    }

    /// A connection to `target` could not be made in time since `began`, and `ear` listened to its cluster meanwhile. If others of
    /// the cluster were heard, it is to blame; else the cluster is suspected.
    pub(crate) fn unanswered(&self, target: Target, began: Instant, ear: &Ear) -> Verdict {
        if !*self.gateways.borrow() {
            return Verdict::Known;
        }
        let cluster = target.cluster();
        if cluster == self.own || ear.heard() {
            self.failed(target, Fault::Silent, began);
            return Verdict::Known;
        }
        self.suspect(cluster, Some((target, began)))
    }

    /// Nothing was heard of `cluster` on a connection that stands, although something should have been.
    pub(crate) fn silent(&self, cluster: ClusterId, ear: &Ear) -> Verdict {
        if cluster == self.own || !*self.gateways.borrow() || ear.heard() {
            return Verdict::Known;
        }
        self.suspect(cluster, None)
    }

    fn suspect(&self, cluster: ClusterId, unanswered: Option<(Target, Instant)>) -> Verdict {
        let now = Instant::now();
        let mut silence = lock(&self.suspects);
        silence.last.insert(cluster, now);
        if !silence.suspects.suspect(cluster, unanswered, now) {
            return Verdict::Known;
        }
        self.count_suspects(&silence);
        drop(silence);
        self.metrics.suspicions.inc();
        self.told.notify_waiters();
        tracing::info!(%cluster, "nothing is heard of a cluster: new connections go elsewhere where they can");
        Verdict::Suspected
    }

    /// Forgets a suspicion that nobody looks after any more.
    pub(crate) fn forget(&self, cluster: ClusterId) {
        let mut silence = lock(&self.suspects);
        silence.suspects.heard(cluster, None, Instant::now());
        self.count_suspects(&silence);
    }

    fn count_suspects(&self, silence: &Silence) {
        let count = silence.suspects.len();
        self.suspected.store(count, Relaxed);
        self.metrics.suspected.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A connection to `target` that began to be made at `began` could not be, while `ear` listened to its cluster.
    pub(crate) fn not_connected(&self, target: Target, failure: &Failure, began: Instant, ear: &Ear) {
        let Failure::Connection { reason, .. } = failure else { return };
        if *reason != "timed-out" {
            if CloseCode::from_reason(reason).is_some_and(|code| code != CloseCode::GoingAway) {
                self.heard(target.cluster(), None);
            }
            if let Some(fault) = fault_of(failure) {
                self.failed(target, fault, began);
            }
            return;
        }
        let cluster = target.cluster();
        // what was lost while the cluster was silent says nothing
        let troubled = lock(&self.suspects).last.get(&cluster).is_some_and(|last| *last >= began);
        if *self.gateways.borrow() && !troubled && (cluster == self.own || ear.heard()) {
            self.failed(target, Fault::Silent, began);
        }
    }

    /// An endpoint failed for whatever it serves. What a gateway picked is no endpoint.
    fn failed(&self, target: Target, fault: Fault, began: Instant) {
        if matches!(target, Target::Service(..)) {
            return;
        }
        let lines: Vec<Arc<Line>> = {
            let lines = lock(&self.lines);
            lines.by_service.values().flatten().map(|(_, line)| Arc::clone(line)).collect()
        };
        for line in lines {
            line.failed(target, fault, began);
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
