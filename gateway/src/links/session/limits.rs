//! How much a gateway of a linked cluster may ask for on one connection. Pure.
//!
//! The figures are above what a gateway of any release sends: `tell.rs` has its paces. The largest message costs less than a second, so
//! that a peer which has to wait is still heard before it counts as silent.

use crate::bucket::Bucket;
use causeway_wire::link::LinkMessage;
use std::time::{Duration, Instant};

/// Facts: 20 a second, where a gateway sends at most 10. Each has certificates to be checked.
const FACTS_EVERY: Duration = Duration::from_millis(50);
/// Facts in a row.
const FACTS_BURST: u32 = 64;
/// What the peer wants: 500 units a second. A gateway sends at most 20 lists of services and 4 of instances, which are long.
const WANTS_EVERY: Duration = Duration::from_millis(2);
/// Room for the longest lists, several times.
const WANTS_BURST: u32 = 1_000;
/// Entries of such a list that cost as much as one list.
const WANTS_A_UNIT: usize = 1_024;
/// Paths through the peer's cluster: 2 messages a second, where a gateway sends at most one. Each makes everything that is told of paths
/// to be thought over.
const ROUTES_EVERY: Duration = Duration::from_millis(500);
/// What comes at once after it was held up on its way.
const ROUTES_BURST: u32 = 8;
/// Heartbeats, reports on pairs of gateways, and paths: 125 units a second. A gateway sends at most 10 of each of the first two, of
/// up to 9 units, and one of the last.
const PULSE_EVERY: Duration = Duration::from_millis(8);
/// What comes at once after it was held up on its way.
const PULSE_BURST: u32 = 500;
/// Reports that cost as much as one message.
const REPORTS_A_UNIT: usize = 32;
/// Clusters, on all paths together, that cost as much as one message.
const HOPS_A_UNIT: usize = 128;
/// News: 5,000 units a second.
const NEWS_EVERY: Duration = Duration::from_micros(200);
/// Room for the exports of a whole cluster (10,000), and for the endpoints of every service that may be in use (4,096), twice.
const NEWS_BURST: u32 = 20_000;
/// Exports that cost as much as one message.
const EXPORTS_A_UNIT: usize = 8;
/// Instances that are gone that cost as much as one message.
const GONE_A_UNIT: usize = 16;

/// What is left to one connection.
pub(super) struct Limits {
    facts: Bucket,
    wants: Bucket,
    pulse: Bucket,
    routes: Bucket,
    news: Bucket,
}

impl Limits {
    pub(super) fn new() -> Self {
        Self {
            facts: Bucket::new(FACTS_EVERY, FACTS_BURST),
            wants: Bucket::new(WANTS_EVERY, WANTS_BURST),
            pulse: Bucket::new(PULSE_EVERY, PULSE_BURST),
            routes: Bucket::new(ROUTES_EVERY, ROUTES_BURST),
            news: Bucket::new(NEWS_EVERY, NEWS_BURST),
        }
    }

    /// Charges for `message`. Returns whether the next one has to wait.
    pub(super) fn charge(&mut self, now: Instant, message: &LinkMessage) -> bool {
        let (bucket, cost) = match message {
            LinkMessage::Facts(_) => (&mut self.facts, 1),
            LinkMessage::UseServices(uses) => (&mut self.wants, units(uses.handles.len(), WANTS_A_UNIT)),
            LinkMessage::WatchInstances(watch) => {
                (&mut self.wants, units(watch.instances.len(), WANTS_A_UNIT))
            }
            LinkMessage::SendSnapshot(_) | LinkMessage::HaveExports(_) => (&mut self.wants, 1),
            LinkMessage::Heartbeat(_) => (&mut self.pulse, 1),
            LinkMessage::Routes(told) => {
                self.routes.charge(now, 1);
                let hops = told.paths.iter().map(|path| path.clusters.len()).sum();
                (&mut self.pulse, units(hops, HOPS_A_UNIT))
            }
            LinkMessage::PairReports(told) => (&mut self.pulse, units(told.reports.len(), REPORTS_A_UNIT)),
            LinkMessage::Exports(exports) => {
                (&mut self.news, units(exports.upserts.len() + exports.removed.len(), EXPORTS_A_UNIT))
            }
            LinkMessage::InstancesGone(gone) => (&mut self.news, units(gone.instances.len(), GONE_A_UNIT)),
            LinkMessage::Digest(_)
            | LinkMessage::Endpoints(_)
            | LinkMessage::Hello(_)
            | LinkMessage::Pair(_)
            | LinkMessage::Paired(_)
            | LinkMessage::Refused(_)
            | LinkMessage::FactsTaken(_)
            | LinkMessage::Unlink(_) => (&mut self.news, 1),
        };
        bucket.charge(now, cost);
        self.resume_at(now).is_some()
    }

    /// Charges for a datagram that says nothing.
    pub(super) fn charge_noise(&mut self, now: Instant) {
        self.pulse.charge(now, 1);
    }

    /// When the next message may be read; `None` if it may be now.
    pub(super) fn resume_at(&self, now: Instant) -> Option<Instant> {
        let buckets = [&self.facts, &self.wants, &self.pulse, &self.routes, &self.news];
        buckets.into_iter().filter_map(|bucket| bucket.debt_until(now)).max()
    }
}

fn units(count: usize, a_unit: usize) -> u32 {
    u32::try_from(count / a_unit).unwrap_or(u32::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_federation::SILENT_AFTER;
    use causeway_model::{ClusterId, Epoch, NodeId, Revision, ServiceHandle, WorkloadId};
    use causeway_wire::link::{
        Endpoints, Exports, Heartbeat, MAX_PATH, MAX_PATHS, PairEnd, PairReport, PairReports,
        PeerInstancesGone, Routes, TransitPath, UseServices, WatchPeerInstances,
    };

    fn exports(removed: usize) -> LinkMessage {
        let removed = vec![ServiceHandle(1); removed];
        let (from, to) = (Revision(1), Revision(2));
        Exports { epoch: Epoch(1), from, to, snapshot: None, upserts: Vec::new(), removed }.into()
    }

    fn gone(count: usize) -> LinkMessage {
        PeerInstancesGone { instances: vec![WorkloadId(1); count] }.into()
    }

    fn watch(count: usize) -> LinkMessage {
        WatchPeerInstances { instances: vec![WorkloadId(1); count] }.into()
    }

    fn uses(count: usize) -> LinkMessage {
        UseServices { handles: vec![ServiceHandle(1); count] }.into()
    }

    fn endpoints() -> LinkMessage {
        Endpoints { handle: ServiceHandle(1), endpoints: Vec::new() }.into()
    }

    fn heartbeat() -> LinkMessage {
        Heartbeat { seq: 1, unix_ms: 1, heard: 1, received: 1, heard_ago_ms: 1, hearing: 0 }.into()
    }

    fn reports(count: usize) -> LinkMessage {
        let end = |id| PairEnd { cluster: ClusterId::new(id).unwrap(), node: NodeId(1) };
        let (from, to) = (end(1), end(2));
        let report = PairReport { from, to, unix_ms: 1, heard_ago_ms: 1, said_ago_ms: 1, hearing: 0 };
        PairReports { reports: vec![report; count] }.into()
    }

    fn routes() -> LinkMessage {
        let path = TransitPath { clusters: vec![ClusterId::new(1).unwrap(); MAX_PATH] };
        Routes { transit: true, paths: vec![path; MAX_PATHS] }.into()
    }

    /// A large cluster that is told of anew, and changes as fast as its gateways' paces let them say, for a minute.
    #[test]
    fn a_busy_peer_never_waits() {
        let (start, mut limits) = (Instant::now(), Limits::new());
        assert!(!(0..20).any(|_| limits.charge(start, &exports(512))));
        assert!(!(0..4096).any(|_| limits.charge(start, &endpoints())));
        assert!(!limits.charge(start, &gone(65_536)));
        for ms in (0..60_000).step_by(10) {
            let now = start + Duration::from_millis(ms);
            assert!(!(ms % 50 == 0 && limits.charge(now, &uses(4096))), "{ms}");
            assert!(!(ms % 250 == 0 && limits.charge(now, &watch(65_536))), "{ms}");
            assert!(!(ms % 20 == 0 && limits.charge(now, &exports(128))), "{ms}");
            assert!(!(0..20).any(|_| limits.charge(now, &endpoints())), "{ms}");
            assert!(!limits.charge(now, &gone(10)), "{ms}");
            let told =
                ms % 100 == 0 && [heartbeat(), reports(256)].iter().any(|told| limits.charge(now, told));
            assert!(!told, "{ms}");
            assert!(!(ms % 1000 == 0 && limits.charge(now, &routes())), "{ms}");
        }
    }

    #[test]
    fn paths_are_taken_twice_a_second_however_few_they_are() {
        let (start, mut limits) = (Instant::now(), Limits::new());
        let few: LinkMessage = Routes { transit: true, paths: Vec::new() }.into();
        let mut taken = 0;
        for ms in 0..60_000 {
            let now = start + Duration::from_millis(ms);
            if limits.resume_at(now).is_none() {
                limits.charge(now, &few);
                taken += 1;
            }
        }
        assert!((120..=130).contains(&taken), "{taken}");
        let cost = |clusters: usize| {
            let mut limits = Limits::new();
            let path = TransitPath { clusters: vec![ClusterId::new(1).unwrap(); clusters] };
            limits.charge(start, &Routes { transit: true, paths: vec![path; 64] }.into());
            limits.pulse.clone()
        };
        let left = |mut bucket: Bucket| (0..10_000).take_while(|_| bucket.take(start).is_ok()).count();
        assert!(left(cost(MAX_PATH)) < left(cost(1)), "long paths cost no more than short ones");
    }

    #[test]
    fn a_flood_is_slowed_and_still_heard() {
        for message in [
            exports(0),
            exports(20_000),
            gone(65_536),
            watch(65_536),
            uses(4096),
            endpoints(),
            heartbeat(),
            reports(256),
            routes(),
        ] {
            let (start, mut limits) = (Instant::now(), Limits::new());
            let first = (0..1_000_000).find(|_| limits.charge(start, &message));
            assert!(first.is_some(), "{message:.40?}");
            let wait = limits.resume_at(start).unwrap() - start;
            assert!(wait < SILENT_AFTER / 2, "{wait:?}");
        }
    }
}
