//! How much one session may ask for. Pure.
//!
//! The figures are far above what a sidecar of any release sends (it sends its lists no more often than every 10 ms, tries a
//! registration again after a quarter of a second a few times and then each second, and renews once a minute at most), so that only one that is broken or hostile meets them.

use crate::bucket::Bucket;
use causeway_wire::ctl::ToGateway;
use std::time::{Duration, Instant};

/// Reports of health and of trust: 100 a second. One of health can become a row that every gateway of the cluster is told.
const REPORT_EVERY: Duration = Duration::from_millis(10);
/// Every service of a workload may change its health at once ([`causeway_wire::ctl::MAX_SERVED`]), several times in a row.
const REPORT_BURST: u32 = 512;
/// Lists of services and instances: 500 units a second, where a sidecar sends at most 200 lists.
const LIST_EVERY: Duration = Duration::from_millis(2);
/// Room for a first list of every service that is possible, and more.
const LIST_BURST: u32 = 2_000;
/// New subscriptions that cost as much as one list: each is looked up in every linked cluster's offers, and told.
const SUBSCRIPTIONS_A_UNIT: usize = 8;
/// Watched instances that cost as much as one list.
const INSTANCES_A_UNIT: usize = 1_024;
/// Registrations: 5 a second. Each reads the registry, and a first one with ports writes to it.
const REGISTER_EVERY: Duration = Duration::from_millis(200);
/// Registrations in a row.
const REGISTER_BURST: u32 = 32;
/// Virtual addresses: 200 names or addresses a second. Each is a look-up, and the first one of a name becomes part of a change of the
/// registry; a sidecar remembers what it was told.
const VIP_EVERY: Duration = Duration::from_millis(5);
/// An application may use many names at its start.
const VIP_BURST: u32 = 1_024;
/// Certificates: 6 a minute. Each is a signature with the cluster's key.
const SIGN_EVERY: Duration = Duration::from_secs(10);
/// A sidecar has at most 4 renewals under way.
const SIGN_BURST: u32 = 4;

/// What is left to one session.
pub(super) struct Limits {
    reports: Bucket,
    lists: Bucket,
    registrations: Bucket,
    signatures: Bucket,
    vips: Bucket,
}

impl Limits {
    pub(super) fn new() -> Self {
        Self {
            reports: Bucket::new(REPORT_EVERY, REPORT_BURST),
            lists: Bucket::new(LIST_EVERY, LIST_BURST),
            registrations: Bucket::new(REGISTER_EVERY, REGISTER_BURST),
            signatures: Bucket::new(SIGN_EVERY, SIGN_BURST),
            vips: Bucket::new(VIP_EVERY, VIP_BURST),
        }
    }

    /// Charges for `message`, which names `fresh` services that were not subscribed to before. Returns whether the next one has to
    /// wait.
    pub(super) fn charge(&mut self, now: Instant, message: &ToGateway, fresh: usize) -> bool {
        let (bucket, cost) = match message {
            ToGateway::Subscribe(_) => (&mut self.lists, units(fresh, SUBSCRIPTIONS_A_UNIT)),
            ToGateway::WatchInstances(watch) => {
                (&mut self.lists, units(watch.instances.len(), INSTANCES_A_UNIT))
            }
            ToGateway::Register(_) => (&mut self.registrations, 1),
            ToGateway::Renew(_) | ToGateway::Join(_) => (&mut self.signatures, 1),
            ToGateway::AskVip(_) | ToGateway::FindVip(_) => (&mut self.vips, 1),
            ToGateway::ReportHealth(_)
            | ToGateway::Attach(_)
            | ToGateway::Trust(_)
            | ToGateway::Hello(_)
            | ToGateway::Goodbye(_) => (&mut self.reports, 1),
        };
        bucket.charge(now, cost);
        self.resume_at(now).is_some()
    }

    /// When the next message may be read; `None` if it may be now.
    pub(super) fn resume_at(&self, now: Instant) -> Option<Instant> {
        let buckets = [&self.reports, &self.lists, &self.registrations, &self.signatures, &self.vips];
        buckets.into_iter().filter_map(|bucket| bucket.debt_until(now)).max()
    }
}

fn units(count: usize, a_unit: usize) -> u32 {
    u32::try_from(count / a_unit).unwrap_or(u32::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_model::{ClusterId, Health, WorkloadId};
    use causeway_wire::ctl::{
        AskVip, FindVip, MAX_SERVED, MAX_SUBSCRIPTIONS, MAX_WATCHED, Register, Renew, ReportHealth,
        Subscribe, WatchInstances,
    };

    fn watch(count: usize) -> ToGateway {
        WatchInstances { instances: vec![(ClusterId::new(7).unwrap(), WorkloadId(1)); count] }.into()
    }

    fn subscribe() -> ToGateway {
        Subscribe { services: Vec::new() }.into()
    }

    fn health() -> ToGateway {
        ReportHealth { service: "a.b".parse().unwrap(), health: Health::Healthy }.into()
    }

    fn ask_vip() -> ToGateway {
        AskVip { request: 1, name: "a.b".parse().unwrap() }.into()
    }

    fn find_vip() -> ToGateway {
        FindVip { request: 1, vip: causeway_model::Vip::new(1).unwrap() }.into()
    }

    fn renew() -> ToGateway {
        Renew { request: 1, csr: Vec::new() }.into()
    }

    fn register() -> ToGateway {
        let services = Vec::new();
        Register { request: 1, services, locality: None, weight: 1, overlay: Vec::new() }.into()
    }

    /// The busiest sidecar that is possible: all it may serve, use and watch, and lists as often as its pace allows, for a minute.
    #[test]
    fn a_busy_sidecar_never_waits() {
        let (start, mut limits) = (Instant::now(), Limits::new());
        assert!(!limits.charge(start, &register(), 0));
        assert!(!limits.charge(start, &subscribe(), MAX_SUBSCRIPTIONS));
        assert!(!limits.charge(start, &watch(MAX_WATCHED), 0));
        assert!(!(0..1_000).any(|_| limits.charge(start, &ask_vip(), 0)));
        for ms in (0..60_000).step_by(10) {
            let now = start + Duration::from_millis(ms);
            assert!(!limits.charge(now, &subscribe(), 1), "{ms}");
            assert!(!limits.charge(now, &watch(1_000), 0), "{ms}");
            if ms % 1_000 == 0 {
                assert!(!limits.charge(now, &register(), 0), "{ms}");
                let waited = (0..MAX_SERVED).any(|_| limits.charge(now, &health(), 0));
                assert!(!waited, "{ms}");
            }
            if ms % 30_000 == 0 {
                assert!(!limits.charge(now, &renew(), 0), "{ms}");
            }
        }
    }

    #[test]
    fn a_flood_of_each_kind_is_held_to_its_rate() {
        let read_in_100_s = |message: ToGateway, fresh| {
            let (start, mut limits) = (Instant::now(), Limits::new());
            let (mut now, mut read) = (start, 0);
            while now < start + Duration::from_secs(100) {
                limits.charge(now, &message, fresh);
                read += 1;
                now = limits.resume_at(now).unwrap_or(now);
            }
            read
        };
        assert_eq!(read_in_100_s(health(), 0), 10_512);
        assert_eq!(read_in_100_s(subscribe(), 0), 52_000);
        assert_eq!(read_in_100_s(subscribe(), MAX_SUBSCRIPTIONS), 102);
        assert_eq!(read_in_100_s(watch(MAX_WATCHED), 0), 800);
        assert_eq!(read_in_100_s(register(), 0), 532);
        assert_eq!(read_in_100_s(renew(), 0), 14);
        assert_eq!(read_in_100_s(ask_vip(), 0), 21_024);
        assert_eq!(read_in_100_s(find_vip(), 0), 21_024);
    }

    #[test]
    fn a_fifth_certificate_waits() {
        let (now, mut limits) = (Instant::now(), Limits::new());
        let waits: Vec<bool> = (0..5).map(|_| limits.charge(now, &renew(), 0)).collect();
        assert_eq!(waits, [false, false, false, false, true]);
        assert_eq!(limits.resume_at(now), Some(now + SIGN_EVERY));
    }
}
