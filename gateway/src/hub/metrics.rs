//! What the hub's sessions count.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// By protocol.
type PerProtocol = Family<[(&'static str, &'static str); 1], Counter>;

/// Counters of the sessions with sidecars, with linked clusters and within the cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionMetrics {
    pub(super) control: Gauge,
    pub(super) strangers: Gauge,
    delayed: PerProtocol,
    skipped: PerProtocol,
}

impl SessionMetrics {
    /// Registers all of them.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "control_connections",
            "Control connections of sidecars that are open",
            self.control.clone(),
        );
        registry.register(
            "stranger_connections",
            "Connections without a certificate that are open, over any protocol: who joins with a token, or has none",
            self.strangers.clone(),
        );
        registry.register(
            "messages_delayed",
            "Messages after which a session had to wait, because it asks for more than its limits allow",
            self.delayed.clone(),
        );
        registry.register(
            "frames_skipped",
            "Frames that were skipped because this release does not know their kind or version",
            self.skipped.clone(),
        );
    }

    /// The meter of one session over `protocol` (`ctl`, `link`, `raft`).
    pub(crate) fn meter(&self, protocol: &'static str) -> Meter {
        let label = [("protocol", protocol)];
        Meter {
            delayed: self.delayed.get_or_create(&label).clone(),
            skipped: self.skipped.get_or_create(&label).clone(),
            known: 0,
        }
    }
}

/// Counts for one session.
#[derive(Debug)]
pub(crate) struct Meter {
    delayed: Counter,
    skipped: Counter,
    /// How many skipped frames were counted.
    known: u64,
}

impl Meter {
    /// The session has to wait.
    pub(crate) fn delayed(&self) {
        self.delayed.inc();
    }

    /// The session's reader has skipped `count` frames since it began.
    pub(crate) fn skipped(&mut self, count: u64) {
        self.skipped.inc_by(count.saturating_sub(self.known));
        self.known = count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_adds_to_its_protocol() {
        let metrics = SessionMetrics::default();
        let (mut first, mut second) = (metrics.meter("ctl"), metrics.meter("ctl"));
        first.skipped(3);
        first.skipped(3);
        first.skipped(5);
        second.skipped(1);
        metrics.meter("link").delayed();
        let process = causeway_runtime::Metrics::new();
        process.registry(|registry| metrics.register(registry));
        let text = process.encode();
        for line in [
            "causeway_control_connections 0",
            "causeway_stranger_connections 0",
            "causeway_frames_skipped_total{protocol=\"ctl\"} 6",
            "causeway_frames_skipped_total{protocol=\"link\"} 0",
            "causeway_messages_delayed_total{protocol=\"link\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
    }
}
