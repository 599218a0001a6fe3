//! Whether links work, for operators: states and metrics.
//!
//! A link is `one-way` when packets between some two gateways arrive in one direction only and no two gateways hear each other: that
//! says more than `up`, which an old connection makes it, or `down`, which it is for those who only see that nothing comes back.

use super::PairStatus;
use crate::hub::{Hub, Peer};
use causeway_catalog::Link;
use causeway_federation::path::Verdict;
use causeway_model::NodeId;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::time::{Duration, Instant};

/// Whether a link works (`up`, `stale`, `down`, `one-way` or `paused`), and for how long it has been silent.
pub(crate) fn state(hub: &Hub, link: &Link) -> (&'static str, Option<Duration>) {
    if link.paused || link.peer_paused {
        let stale = hub.with_peer(link.peer.id, |peer| peer.imports.stale_for(Instant::now())).flatten();
        return ("paused", stale);
    }
    let reached = hub.forwarder.reaches(link.peer.id).unwrap_or(false);
    let now = Instant::now();
    let known = hub.with_peer(link.peer.id, |peer| {
        (peer.sessions.len(), peer.imports.stale_for(now), peer.health.is_one_way(now))
    });
    let (sessions, stale, one_way) = known.unwrap_or_default();
    if one_way {
        return ("one-way", stale);
    }
    (judge(sessions, stale.is_some(), reached), stale)
}

/// `up` if the peer speaks, `down` if no gateway of it answers at all, `stale` if it answers but says nothing.
fn judge(sessions: usize, stale: bool, reached: bool) -> &'static str {
    match (sessions > 0, stale, reached) {
        (true, false, _) => "up",
        (false, _, false) => "down",
        _ => "stale",
    }
}

/// The links as metrics: read when they are asked for.
pub(crate) struct LinkCollector(Hub);

impl LinkCollector {
    pub(crate) fn new(hub: Hub) -> Self {
        Self(hub)
    }
}

impl fmt::Debug for LinkCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkCollector")
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClusterLabel {
    cluster: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PairLabel {
    cluster: String,
    gateway: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DirectionLabel {
    cluster: String,
    gateway: String,
    /// `in` for what the linked cluster's gateway sends, `out` for what this one does.
    direction: &'static str,
}

/// One link's values.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    up: u64,
    sessions: u64,
    imports: u64,
    exports: u64,
    stale: f64,
    refused: u64,
    over_cap: u64,
}

impl Sample {
    fn of(peer: &Peer) -> Self {
        let stale = peer.imports.stale_for(Instant::now());
        Self {
            up: u64::from(!peer.sessions.is_empty() && stale.is_none()),
            sessions: peer.sessions.values().sum::<usize>() as u64,
            imports: peer.imports.len() as u64,
            exports: peer.exporter.len() as u64,
            stale: stale.unwrap_or_default().as_secs_f64(),
            refused: peer.refused.count,
            over_cap: peer.refused.over_cap,
        }
    }
}

type Read = fn(&Sample) -> u64;

const GAUGES: [(&str, &str, Read); 4] = [
    ("link_up", "Whether a linked cluster speaks: 1 or 0", |sample| sample.up),
    ("link_connections", "Connections with gateways of a linked cluster", |sample| sample.sessions),
    ("link_imports", "Services that a linked cluster offers", |sample| sample.imports),
    ("link_exports", "Services that are offered to a linked cluster", |sample| sample.exports),
];

const COUNTERS: [(&str, &str, Read); 2] = [
    ("link_offers_refused", "Offers of a linked cluster that were refused", |sample| sample.refused),
    ("link_offers_over_cap", "Offers of a linked cluster that the limit kept out", |sample| sample.over_cap),
];

impl Collector for LinkCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let catalog = self.0.catalog();
        let sample = |link: &Link| {
            let label = ClusterLabel { cluster: link.peer.name.to_string() };
            (label, self.0.with_peer(link.peer.id, Sample::of).unwrap_or_default())
        };
        let samples: Vec<(ClusterLabel, Sample)> = catalog.links().map(sample).collect();
        for (name, help, read) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (label, sample) in &samples {
                let value = i64::try_from(read(sample)).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(family.encode_family(label)?)?;
            }
        }
        for (name, help, read) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (label, sample) in &samples {
                ConstCounter::new(read(sample)).encode(family.encode_family(label)?)?;
            }
        }
        let help = "For how long a linked cluster has been silent, 0 while it speaks";
        let mut family = encoder.encode_descriptor("link_stale_seconds", help, None, MetricType::Gauge)?;
        for (label, sample) in &samples {
            ConstGauge::new(sample.stale).encode(family.encode_family(label)?)?;
        }
        let (through, refused) = self.0.transit.counts();
        let help = "Clusters that are reached through others";
        let through = i64::try_from(through).unwrap_or(i64::MAX);
        ConstGauge::new(through).encode(encoder.encode_descriptor(
            "transit_clusters",
            help,
            None,
            MetricType::Gauge,
        )?)?;
        let help = "Paths through linked clusters that were refused, because they made no sense";
        ConstCounter::new(refused).encode(encoder.encode_descriptor(
            "transit_paths_refused",
            help,
            None,
            MetricType::Counter,
        )?)?;
        let now = Instant::now();
        let pairs = |link: &Link| {
            let name = link.peer.name.to_string();
            let pairs = self.0.with_peer(link.peer.id, |peer| peer.health.pairs(now)).unwrap_or_default();
            pairs.into_iter().map(move |(node, pair)| (name.clone(), node, pair))
        };
        encode_pairs(&mut encoder, &catalog.links().flat_map(pairs).collect::<Vec<_>>())
    }
}

fn encode_pairs(
    encoder: &mut DescriptorEncoder<'_>,
    pairs: &[(String, NodeId, PairStatus)],
) -> Result<(), fmt::Error> {
    let label =
        |cluster: &String, node: &NodeId| PairLabel { cluster: cluster.clone(), gateway: node.to_string() };
    let help = "Whether this gateway and a linked cluster's hear each other: 1 or 0";
    let mut family = encoder.encode_descriptor("link_pair_up", help, None, MetricType::Gauge)?;
    for (cluster, node, pair) in pairs {
        let up = i64::from(pair.verdict == Some(Verdict::Up));
        ConstGauge::new(up).encode(family.encode_family(&label(cluster, node))?)?;
    }
    let help = "The round-trip time of heartbeats between this gateway and a linked cluster's, smoothed";
    let mut family = encoder.encode_descriptor("link_pair_rtt_seconds", help, None, MetricType::Gauge)?;
    for (cluster, node, pair) in pairs {
        let Some(rtt) = pair.rtt else { continue };
        ConstGauge::new(rtt.as_secs_f64()).encode(family.encode_family(&label(cluster, node))?)?;
    }
    let help = "The share of heartbeats of the last 20 s that were lost between this gateway and a linked cluster's: 0 to 1";
    let mut family = encoder.encode_descriptor("link_pair_loss_ratio", help, None, MetricType::Gauge)?;
    for (cluster, node, pair) in pairs {
        for (direction, loss) in [("in", pair.loss_in), ("out", pair.loss_out)] {
            let Some(percent) = loss else { continue };
            let label = DirectionLabel { cluster: cluster.clone(), gateway: node.to_string(), direction };
            ConstGauge::new(f64::from(percent) / 100.0).encode(family.encode_family(&label)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_up_only_while_the_peer_speaks() {
        assert_eq!(judge(1, false, false), "up");
        assert_eq!(judge(2, false, true), "up");
        assert_eq!(judge(1, true, true), "stale");
        assert_eq!(judge(1, true, false), "stale", "a connection is not given up yet");
        assert_eq!(judge(0, true, true), "stale");
        assert_eq!(judge(0, false, true), "stale", "nothing was ever heard");
        assert_eq!(judge(0, true, false), "down");
        assert_eq!(judge(0, false, false), "down");
    }
}
