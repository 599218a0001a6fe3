//! What was carried between each caller and each service: the families by source and destination.
//!
//! Owns that there are no more than [`MAX_PAIRS`] of them, however many peers call: what is beyond counts as one, called
//! `other`. A connection resolves its pair once.

use crate::access::Direction;
use causeway_model::{ServiceName, SpiffeId};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most pairs of a source and a destination that are told apart.
pub(crate) const MAX_PAIRS: usize = 512;
/// What the rest is called.
const OTHER: &str = "other";

type Labels = [(&'static str, String); 3];
type Outcome = [(&'static str, String); 4];

/// Whom connections are between, and what of them is counted.
#[derive(Debug)]
pub(crate) struct Pair {
    labels: Labels,
    connections: Counter,
    pub(crate) to_mesh: Counter,
    pub(crate) from_mesh: Counter,
    duration: Histogram,
    connect: Histogram,
    all_outcomes: Family<Outcome, Counter>,
    /// Those that occurred: few.
    outcomes: Mutex<Vec<(&'static str, Counter)>>,
}

/// The families.
#[derive(Debug)]
pub(crate) struct Pairs {
    connections: Family<Labels, Counter>,
    to_mesh: Family<Labels, Counter>,
    from_mesh: Family<Labels, Counter>,
    duration: Family<Labels, Histogram>,
    connect: Family<Labels, Histogram>,
    outcomes: Family<Outcome, Counter>,
    known: Mutex<Known>,
}

/// The pairs that are told apart, by direction.
#[derive(Debug, Default)]
struct Known {
    outbound: BySource,
    inbound: BySource,
    count: usize,
}

type BySource = FxHashMap<SpiffeId, FxHashMap<ServiceName, Arc<Pair>>>;

impl Default for Pairs {
    fn default() -> Self {
        Self {
            connections: Family::default(),
            to_mesh: Family::default(),
            from_mesh: Family::default(),
            // from 1 ms to 70 min
            duration: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 4.0, 12))),
            // from 250 us, a peer in the same rack, to 4 s, about the usual timeout
            connect: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.00025, 2.0, 15))),
            outcomes: Family::default(),
            known: Mutex::default(),
        }
    }
}

impl Pairs {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register(
            "service_connections",
            "Connections by source and destination service",
            self.connections.clone(),
        );
        r.register(
            "service_to_mesh_bytes",
            "Bytes into the mesh by source and destination service",
            self.to_mesh.clone(),
        );
        r.register(
            "service_from_mesh_bytes",
            "Bytes out of the mesh by source and destination service",
            self.from_mesh.clone(),
        );
        r.register(
            "service_duration_seconds",
            "How long connections lasted by source and destination service",
            self.duration.clone(),
        );
        r.register(
            "service_connect_seconds",
            "Time until a connection was accepted by source and destination service",
            self.connect.clone(),
        );
        r.register(
            "service_outcomes",
            "Connections by source and destination service and how they ended",
            self.outcomes.clone(),
        );
    }

    /// The pair of `source` and `destination`; without one of them, and beyond [`MAX_PAIRS`], that of the rest.
    pub(crate) fn of(
        &self,
        direction: Direction,
        source: Option<&SpiffeId>,
        destination: Option<&ServiceName>,
    ) -> Arc<Pair> {
        let (Some(source), Some(destination)) = (source, destination) else {
            return Arc::new(self.pair(direction, OTHER, OTHER));
        };
        let mut known = self.known();
        if let Some(pair) = known.of(direction).get(source).and_then(|of_source| of_source.get(destination)) {
            return Arc::clone(pair);
        }
        if known.count >= MAX_PAIRS {
            return Arc::new(self.pair(direction, OTHER, OTHER));
        }
        let pair = Arc::new(self.pair(direction, &source.to_string(), &destination.to_string()));
        known.count += 1;
        let of_source = known.of(direction).entry(source.clone()).or_default();
        of_source.insert(destination.clone(), Arc::clone(&pair));
        pair
    }

    fn pair(&self, direction: Direction, source: &str, destination: &str) -> Pair {
        let labels = [
            ("direction", direction.as_str().to_owned()),
            ("source", source.to_owned()),
            ("destination", destination.to_owned()),
        ];
        Pair {
            connections: self.connections.get_or_create_owned(&labels),
            to_mesh: self.to_mesh.get_or_create_owned(&labels),
            from_mesh: self.from_mesh.get_or_create_owned(&labels),
            duration: self.duration.get_or_create_owned(&labels),
            connect: self.connect.get_or_create_owned(&labels),
            all_outcomes: self.outcomes.clone(),
            outcomes: Mutex::default(),
            labels,
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn of(&mut self, direction: Direction) -> &mut BySource {
        match direction {
            Direction::Outbound => &mut self.outbound,
            Direction::Inbound => &mut self.inbound,
        }
    }
}

impl Pair {
    /// A connection with what it said so far, in bytes, that took `connect` to be accepted, if it was.
    pub(crate) fn begun(&self, (to_mesh, from_mesh): (u64, u64), connect: Option<Duration>) {
        self.connections.inc();
        self.to_mesh.inc_by(to_mesh);
        self.from_mesh.inc_by(from_mesh);
        if let Some(connect) = connect {
            self.connect.observe(connect.as_secs_f64());
        }
    }

    /// A connection ended.
    pub(crate) fn ended(&self, reason: &'static str, duration: Duration) {
        self.duration.observe(duration.as_secs_f64());
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, count)) = outcomes.iter().find(|(known, _)| *known == reason) {
            count.inc();
            return;
        }
        let [direction, source, destination] = self.labels.clone();
        let count = self.all_outcomes.get_or_create_owned(&[
            direction,
            source,
            destination,
            ("reason", reason.to_owned()),
        ]);
        count.inc();
        outcomes.push((reason, count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_runtime::Metrics;

    fn id(account: &str) -> SpiffeId {
        format!("spiffe://iad.mesh/ns/shop/sa/{account}").parse().unwrap()
    }

    #[test]
    fn a_pair_is_resolved_once_and_counted_with_its_outcomes() {
        let (pairs, all) = (Pairs::default(), Metrics::new());
        all.registry(|registry| pairs.register(registry));
        let pay = "pay.shop".parse().unwrap();
        let pair = || pairs.of(Direction::Inbound, Some(&id("web")), Some(&pay));
        assert!(Arc::ptr_eq(&pair(), &pair()));
        for reason in ["done", "tcp-reset", "done"] {
            pair().begun((3, 4), Some(Duration::from_millis(2)));
            pair().ended(reason, Duration::from_secs(1));
        }
        let of = "direction=\"inbound\",source=\"spiffe://iad.mesh/ns/shop/sa/web\",destination=\"pay.shop\"";
        let text = all.encode();
        for (name, value) in [
            ("connections_total{OF}", 3),
            ("to_mesh_bytes_total{OF}", 9),
            ("from_mesh_bytes_total{OF}", 12),
            ("outcomes_total{OF,reason=\"done\"}", 2),
            ("outcomes_total{OF,reason=\"tcp-reset\"}", 1),
            ("duration_seconds_count{OF}", 3),
            ("connect_seconds_count{OF}", 3),
        ] {
            let line = format!("causeway_service_{} {value}\n", name.replace("OF", of));
            assert!(text.contains(&line), "no {line} in {text}");
        }
    }

    #[test]
    fn however_many_call_the_families_stay_bounded() {
        let (pairs, all) = (Pairs::default(), Metrics::new());
        all.registry(|registry| pairs.register(registry));
        let pay = "pay.shop".parse().unwrap();
        for caller in 0..MAX_PAIRS + 100 {
            let source = id(&format!("web{caller}"));
            pairs.of(Direction::Inbound, Some(&source), Some(&pay)).begun((0, 0), None);
        }
        pairs.of(Direction::Outbound, None, Some(&pay)).begun((0, 0), None);
        let text = all.encode();
        let lines: Vec<&str> =
            text.lines().filter(|line| line.starts_with("causeway_service_connections_total")).collect();
        assert_eq!(lines.len(), MAX_PAIRS + 2);
        let other = |direction| {
            format!(
                "causeway_service_connections_total{{direction=\"{direction}\",source=\"other\",destination=\"other\"}}"
            )
        };
        assert!(lines.contains(&format!("{} 100", other("inbound")).as_str()), "{lines:?}");
        assert!(lines.contains(&format!("{} 1", other("outbound")).as_str()), "{lines:?}");
    }
}
