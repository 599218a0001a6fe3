//! What this workload serves, as it is told to gateways. Pure.

use causeway_model::{Health, ServiceName};
use causeway_wire::ctl::{ReportHealth, ServedService};

/// What a workload serves now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Registration {
    services: Vec<ServedService>,
    draining: bool,
}

/// How a gateway is brought up to date.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Update {
    /// It is already.
    Nothing,
    /// By the health of some services.
    Health(Vec<ReportHealth>),
    /// By a registration.
    Register,
}

impl Registration {
    pub(super) fn new(services: Vec<ServedService>) -> Self {
        Self { services, draining: false }
    }

    /// The services with the health that gateways are told.
    pub(super) fn services(&self) -> Vec<ServedService> {
        let told = |served: &ServedService| match self.draining {
            true => ServedService { health: Health::Draining, ..served.clone() },
            false => served.clone(),
        };
        self.services.iter().map(told).collect()
    }

    /// Sets the health of a service; whether that changed anything.
    pub(super) fn set_health(&mut self, service: &ServiceName, health: Health) -> bool {
        let served = self.services.iter_mut().find(|served| served.name == *service);
        served.is_some_and(|served| std::mem::replace(&mut served.health, health) != health)
    }

    /// Drains every service; whether that changed anything.
    pub(super) fn drain(&mut self) -> bool {
        !std::mem::replace(&mut self.draining, true)
    }

    /// What a gateway that was told `before` has to be told.
    pub(super) fn since(&self, before: &Self) -> Update {
        if self.draining != before.draining {
            return Update::Register;
        }
        let (now, then) = (self.services(), before.services());
        let changed = now.into_iter().zip(then).filter(|(now, then)| now.health != then.health);
        let reports: Vec<ReportHealth> =
            changed.map(|(now, _)| ReportHealth { service: now.name, health: now.health }).collect();
        if reports.is_empty() { Update::Nothing } else { Update::Health(reports) }
    }
}

/// Why a gateway does not let this workload serve what it is to serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gateway refused to register this workload ({reason}): {message}")]
pub struct RegistrationError {
    /// The gateway's stable word.
    pub reason: String,
    /// What it said to the operator.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_model::PortSet;

    fn registration() -> Registration {
        let served = |name: &str| ServedService {
            name: name.parse().unwrap(),
            ports: PortSet::default(),
            health: Health::Healthy,
        };
        Registration::new(vec![served("web.shop"), served("pay.shop")])
    }

    #[test]
    fn a_change_of_health_is_reported_alone() {
        let before = registration();
        let mut now = before.clone();
        assert_eq!(now.since(&before), Update::Nothing);
        let pay = "pay.shop".parse().unwrap();
        assert!(now.set_health(&pay, Health::Unhealthy));
        assert!(!now.set_health(&pay, Health::Unhealthy));
        assert!(!now.set_health(&"other.shop".parse().unwrap(), Health::Unhealthy));
        let report = ReportHealth { service: pay, health: Health::Unhealthy };
        assert_eq!(now.since(&before), Update::Health(vec![report]));
    }

    #[test]
    fn draining_registers_anew_and_hides_later_changes_of_health() {
        let before = registration();
        let mut now = before.clone();
        assert!(now.drain() && !now.drain());
        assert_eq!(now.since(&before), Update::Register);
        assert!(now.services().iter().all(|served| served.health == Health::Draining));
        let drained = now.clone();
        now.set_health(&"pay.shop".parse().unwrap(), Health::Unhealthy);
        assert_eq!(now.since(&drained), Update::Nothing);
    }
}
