//! How far other clusters are, by the connections that stand.

use crate::peer::Peer;
use causeway_balance::{UNKNOWN_PATH, path_class};
use causeway_model::ClusterId;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often paths are measured at most.
const MEASURE: Duration = Duration::from_secs(1);

/// The paths that were measured. What is known of one is kept when no connection stands any more: places do not move.
#[derive(Debug, Default)]
pub(super) struct Paths {
    known: FxHashMap<ClusterId, (u8, Duration)>,
    measured: Option<Instant>,
}

impl Paths {
    /// The class of the path to `cluster`.
    pub(super) fn class(&self, cluster: ClusterId) -> u8 {
        self.known.get(&cluster).map_or(UNKNOWN_PATH, |(class, _)| *class)
    }

    /// The round-trip time to `cluster`, if it is known.
    pub(super) fn round_trip(&self, cluster: ClusterId) -> Option<Duration> {
        self.known.get(&cluster).map(|(_, rtt)| *rtt)
    }

    /// Measures all, if it is time to, or nothing is known yet. The shortest of a cluster counts.
    pub(super) fn measure(&mut self, peers: impl FnOnce() -> Vec<Arc<Peer>>, now: Instant) {
        let wait = if self.known.is_empty() { Duration::ZERO } else { MEASURE };
        if self.measured.is_some_and(|at| now.saturating_duration_since(at) < wait) {
            return;
        }
        self.measured = Some(now);
        let mut shortest: FxHashMap<ClusterId, Duration> = FxHashMap::default();
        for peer in peers().iter().filter(|peer| peer.is_usable()) {
            let rtt = peer.connection.rtt();
            shortest.entry(peer.cluster).and_modify(|least| *least = rtt.min(*least)).or_insert(rtt);
        }
        for (cluster, rtt) in shortest {
            self.learn(cluster, rtt);
        }
    }

    fn learn(&mut self, cluster: ClusterId, rtt: Duration) {
        let before = self.known.get(&cluster).map(|(class, _)| *class);
        let class = path_class(before, rtt);
        if before != Some(class) {
            tracing::debug!(%cluster, ?rtt, class, "a path is judged anew");
        }
        self.known.insert(cluster, (class, rtt));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_kept() {
        let (mut paths, cluster) = (Paths::default(), ClusterId::new(7).unwrap());
        assert_eq!((paths.class(cluster), paths.round_trip(cluster)), (UNKNOWN_PATH, None));
        paths.learn(cluster, Duration::from_millis(80));
        let class = paths.class(cluster);
        paths.learn(cluster, Duration::from_millis(84));
        assert_eq!(
            (paths.class(cluster), paths.round_trip(cluster)),
            (class, Some(Duration::from_millis(84)))
        );
        paths.measure(Vec::new, Instant::now());
        assert_eq!(paths.class(cluster), class);
    }
}
