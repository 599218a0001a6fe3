//! What is counted of choices.

use causeway_model::{PortKey, ServiceName};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

type ByWord = Family<[(&'static str, &'static str); 1], Counter>;
/// The service and the port.
type ByLine<M> = Family<[(&'static str, String); 2], M>;
type Share = Gauge<f64, AtomicU64>;

/// The metrics of all balancers. Clones share their values.
#[derive(Clone, Debug, Default)]
pub(crate) struct BalanceMetrics {
    picks: ByWord,
    ejections: ByWord,
    pub(super) trials: Counter,
    ejected: ByLine<Gauge>,
    spilled: ByLine<Share>,
    pub(super) suspicions: Counter,
    pub(super) suspected: Gauge,
    retries: ByWord,
}

/// The gauges of one port of a service, which are gone when it is forgotten.
#[derive(Debug)]
pub(super) struct LineCounts {
    all: BalanceMetrics,
    labels: [(&'static str, String); 2],
    ejected: Gauge,
    spilled: Share,
}

impl BalanceMetrics {
    /// Adds them to `registry`, which has the prefix of the sidecar.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("balance");
        r.register("picks", "Choices of an endpoint, by how near it is", self.picks.clone());
        r.register("trials", "Choices of an endpoint that was ejected before", self.trials.clone());
        r.register("ejections", "Endpoints that were left alone for a while", self.ejections.clone());
        r.register("ejected", "Endpoints that are ejected, or not tried since", self.ejected.clone());
        r.register(
            "spilled_share",
            "Share of new connections that does not go to the nearest locality",
            self.spilled.clone(),
        );
        r.register("retries", "Attempts beyond the first, by why the last one failed", self.retries.clone());
        r.register("suspicions", "Times that a cluster was found silent", self.suspicions.clone());
        r.register("suspected", "Clusters that are silent", self.suspected.clone());
    }

    pub(super) fn picked(&self, tier: &'static str) {
        self.picks.get_or_create(&[("tier", tier)]).inc();
    }

    pub(super) fn ejection(&self, reason: &'static str) {
        self.ejections.get_or_create(&[("reason", reason)]).inc();
    }

    /// Another attempt is made because the last one failed for `reason`.
    pub(crate) fn retried(&self, reason: &'static str) {
        self.retries.get_or_create(&[("reason", reason)]).inc();
    }

    pub(super) fn line(&self, service: &ServiceName, port: PortKey) -> LineCounts {
        let labels = [("service", service.to_string()), ("port", port.to_string())];
        LineCounts {
            ejected: self.ejected.get_or_create_owned(&labels),
            spilled: self.spilled.get_or_create_owned(&labels),
            all: self.clone(),
            labels,
        }
    }
}

impl LineCounts {
    pub(super) fn all(&self) -> &BalanceMetrics {
        &self.all
    }

    pub(super) fn set_ejected(&self, count: usize) {
        self.ejected.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(super) fn set_spilled(&self, share: f64) {
        self.spilled.set(share);
    }
}

impl Drop for LineCounts {
    fn drop(&mut self) {
        self.all.ejected.remove(&self.labels);
        self.all.spilled.remove(&self.labels);
    }
}
