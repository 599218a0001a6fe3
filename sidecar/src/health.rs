//! Whether the application takes what is delivered to it, and who is told.
//!
//! Owns the checks of served ports: those that are configured, and those that follow a delivery which the application refused.
//! A check goes the way of a delivery. A service is healthy while all its ports are; what that means for callers is their
//! gateways' and their own concern. Streams that come all the same are served.

mod check;
mod metrics;
mod report;
mod schedule;
mod verdict;

pub(crate) use metrics::HealthMetrics;
pub(crate) use report::Tell;

use crate::config::{CheckKind, HealthCheck, ServeSpec, SidecarConfig};
use crate::inbound::Delivery;
use causeway_model::{Health, Protocol, ServiceName};
use causeway_runtime::{Readiness, ReadyGuard, Tasks};
use check::{How, Outcome};
use report::Report;
use schedule::Schedule;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use verdict::{Sign, Verdict};

/// The shortest time between two checks of a port, whoever asks for them.
const GAP: Duration = Duration::from_millis(100);
/// How long a connection may take that shows whether the application listens again.
const PASSIVE_TIMEOUT: Duration = Duration::from_secs(1);

/// A port that is checked.
struct Checked {
    service: ServiceName,
    port: u16,
    how: How,
    timeout: Duration,
    schedule: Schedule,
    verdict: Verdict,
    /// A delivery was refused.
    refused: Arc<Notify>,
}

/// What `service` counts as until its first checks are done.
pub(crate) fn initial(config: &SidecarConfig, service: &ServiceName) -> Health {
    let served = config.serve.iter().filter(|serve| serve.service == *service);
    let starts = served.flat_map(|serve| config.health.iter().filter(move |check| check.covers(serve)));
    starts.map(HealthCheck::initial).max_by_key(|health| *health == Health::Unhealthy).unwrap_or_default()
}

/// Starts the checks of what `config` serves, in tasks of `tasks` on the current runtime. `tell` is told when the health of a
/// service changes, `readiness` waits for the first result of each check that is configured.
pub(crate) fn start(
    config: &SidecarConfig,
    delivery: &Delivery,
    tell: Tell,
    metrics: &HealthMetrics,
    (tasks, readiness): (&Tasks, &Readiness),
) {
    let all = checked(config, delivery);
    let report = Arc::new(Report::new(
        all.iter().map(|checked| (checked.service.clone(), checked.verdict.is_healthy())),
        tell,
        metrics.clone(),
    ));
    for (at, checked) in all.into_iter().enumerate() {
        let name = format!("health {}:{}", checked.service, checked.port);
        let first = checked
            .schedule
            .is_active()
            .then(|| readiness.block(format!("first health check of {}:{}", checked.service, checked.port)));
        let task = Task { at, checked, delivery: delivery.clone(), report: Arc::clone(&report) };
        tasks.spawn(name, task.run(first, tasks.token()));
    }
}

/// Every port that is checked, once for each check, and once for all others if refusals are to be followed.
fn checked(config: &SidecarConfig, delivery: &Delivery) -> Vec<Checked> {
    let mut all = Vec::new();
    for serve in config.serve.iter().filter(|serve| serve.port.protocol != Protocol::Udp) {
        let Some(refused) = delivery.refusals(&serve.service, serve.port.port) else { continue };
        let of = |how, timeout, schedule, verdict| Checked {
            service: serve.service.clone(),
            port: serve.port.port,
            how,
            timeout,
            schedule,
            verdict,
            refused: Arc::clone(&refused),
        };
        let mut checks = config.health.iter().filter(|check| check.covers(serve)).peekable();
        if checks.peek().is_none() && config.passive_health {
            all.push(of(How::Tcp, PASSIVE_TIMEOUT, Schedule::passive(), Verdict::passive()));
        }
        all.extend(checks.map(|check| {
            of(how(check, serve), *check.timeout, Schedule::every(*check.interval), Verdict::new(check))
        }));
    }
    all
}

fn how(check: &HealthCheck, serve: &ServeSpec) -> How {
    match check.kind {
        CheckKind::Tcp => How::Tcp,
        CheckKind::Http => How::Http {
            path: check.path.clone().unwrap_or_else(|| "/".to_owned()),
            host: check.host.clone().unwrap_or_else(|| serve.service.to_string()),
            expect: check.expect,
        },
    }
}

/// The task of one check.
struct Task {
    /// Its place among all.
    at: usize,
    checked: Checked,
    delivery: Delivery,
    report: Arc<Report>,
}

impl Task {
    async fn run(mut self, mut first: Option<ReadyGuard>, end: CancellationToken) {
        let mut wait = if self.checked.schedule.is_active() { Some(Duration::ZERO) } else { None };
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                () = pause(wait) => {}
                () = self.checked.refused.notified() => {}
            }
            let sign = tokio::select! {
                () = end.cancelled() => return,
                sign = self.check() => sign,
            };
            drop(first.take());
            let healthy = self.checked.verdict.is_healthy();
            wait = self.checked.schedule.after(sign, healthy, rand::random());
            tokio::select! {
                () = end.cancelled() => return,
                () = sleep(GAP) => wait = wait.map(|wait| wait.saturating_sub(GAP)),
            }
        }
    }

    /// One check, with all that follows from it.
    async fn check(&mut self) -> Sign {
        let began = Instant::now();
        let Checked { service, port, how, timeout, .. } = &self.checked;
        let outcome = check::check(&self.delivery, (service, *port), how, *timeout).await;
        let sign = outcome.sign();
        self.report.checked(service, sign, began.elapsed());
        if self.checked.verdict.take(sign) {
            self.tell(&outcome);
        }
        sign
    }

    fn tell(&self, outcome: &Outcome) {
        let Checked { service, port, verdict, .. } = &self.checked;
        if verdict.is_healthy() {
            tracing::info!(%service, port, "the application is healthy again");
        } else {
            tracing::warn!(%service, port, cause = %outcome, "the application is unhealthy");
        }
        self.report.set(self.at, verdict.is_healthy());
    }
}

/// Waits so long; without a time for ever.
async fn pause(wait: Option<Duration>) {
    match wait {
        Some(wait) => sleep(wait).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
