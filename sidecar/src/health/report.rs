//! What the checks of a service's ports say of the service.

use super::metrics::HealthMetrics;
use super::verdict::Sign;
use causeway_model::{Health, ServiceName};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Who is told of a change of health.
pub(crate) type Tell = Arc<dyn Fn(&ServiceName, Health) + Send + Sync>;

/// The health of every port that is checked.
pub(super) struct Report {
    ports: Mutex<Vec<(ServiceName, bool)>>,
    tell: Tell,
    metrics: HealthMetrics,
}

impl Report {
    /// The ports as they are before the first check; nobody is told of that.
    pub(super) fn new(
        ports: impl Iterator<Item = (ServiceName, bool)>,
        tell: Tell,
        metrics: HealthMetrics,
    ) -> Self {
        let ports: Vec<(ServiceName, bool)> = ports.collect();
        for (service, _) in &ports {
            metrics.is(service, worst(&ports, service));
        }
        Self { ports: Mutex::new(ports), tell, metrics }
    }

    /// Sets the health of the port at `at`, and tells if that changes its service.
    pub(super) fn set(&self, at: usize, healthy: bool) {
        // held while it is told, so that two changes are told in their order
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((service, _)) = ports.get(at).cloned() else { return };
        let before = worst(&ports, &service);
        if let Some((_, now)) = ports.get_mut(at) {
            *now = healthy;
        }
        let now = worst(&ports, &service);
        if now != before {
            self.metrics.turned(&service, now);
            (self.tell)(&service, now);
        }
    }

    /// Counts a check.
    pub(super) fn checked(&self, service: &ServiceName, sign: Sign, took: Duration) {
        self.metrics.checked(service, sign.as_str(), took);
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report").field("ports", &self.ports).finish_non_exhaustive()
    }
}

fn worst(ports: &[(ServiceName, bool)], service: &ServiceName) -> Health {
    let all = ports.iter().filter(|(name, _)| name == service).all(|(_, healthy)| *healthy);
    if all { Health::Healthy } else { Health::Unhealthy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_as_healthy_as_its_worst_port() {
        let told: Arc<Mutex<Vec<(String, Health)>>> = Arc::default();
        let note = Arc::clone(&told);
        let tell: Tell =
            Arc::new(move |service, health| note.lock().unwrap().push((service.to_string(), health)));
        let port = |name: &str| (name.parse().unwrap(), true);
        let ports = [port("pay.shop"), port("pay.shop"), port("web.shop")];
        let report = Report::new(ports.into_iter(), tell, HealthMetrics::default());
        let changes = |sets: &[(usize, bool)]| {
            sets.iter().for_each(|&(at, healthy)| report.set(at, healthy));
            std::mem::take(&mut *told.lock().unwrap())
        };
        assert_eq!(changes(&[(0, false)]), [("pay.shop".to_owned(), Health::Unhealthy)]);
        assert_eq!(changes(&[(1, false), (0, true), (0, true), (9, false)]), []);
        assert_eq!(changes(&[(1, true)]), [("pay.shop".to_owned(), Health::Healthy)]);
        assert_eq!(changes(&[(2, false)]), [("web.shop".to_owned(), Health::Unhealthy)]);
    }
}
