//! What checks count, by service: a workload serves few.

use causeway_model::{Health, ServiceName};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::time::Duration;

type ByService = [(&'static str, String); 1];

/// The metrics of checks. Clones share their values.
#[derive(Clone, Debug)]
pub(crate) struct HealthMetrics {
    healthy: Family<ByService, Gauge>,
    turned: Family<Vec<(&'static str, String)>, Counter>,
    checks: Family<Vec<(&'static str, String)>, Counter>,
    seconds: Family<ByService, Histogram>,
}

impl Default for HealthMetrics {
    fn default() -> Self {
        Self {
            healthy: Family::default(),
            turned: Family::default(),
            checks: Family::default(),
            // from 100 us, a connection on the host, to 6.5 s, beyond the usual timeout
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0001, 4.0, 9))),
        }
    }
}

impl HealthMetrics {
    /// Adds the metrics to `registry`, under `sidecar_health_`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("sidecar_health");
        r.register(
            "state",
            "1 while the application of a service is healthy, 0 while it is not",
            self.healthy.clone(),
        );
        r.register("transitions", "Changes of a service's health, by what it became", self.turned.clone());
        r.register("checks", "Checks of a service, by what they showed", self.checks.clone());
        r.register("check_seconds", "How long checks of a service took", self.seconds.clone());
    }

    pub(super) fn is(&self, service: &ServiceName, health: Health) {
        let healthy = i64::from(health == Health::Healthy);
        self.healthy.get_or_create(&[("service", service.to_string())]).set(healthy);
    }

    pub(super) fn turned(&self, service: &ServiceName, to: Health) {
        self.is(service, to);
        self.turned.get_or_create(&vec![("service", service.to_string()), ("to", to.to_string())]).inc();
    }

    pub(super) fn checked(&self, service: &ServiceName, result: &'static str, took: Duration) {
        let labels = vec![("service", service.to_string()), ("result", result.to_owned())];
        self.checks.get_or_create(&labels).inc();
        self.seconds.get_or_create(&[("service", service.to_string())]).observe(took.as_secs_f64());
    }
}
