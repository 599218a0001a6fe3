//! Metrics of the process, in the OpenMetrics text format that Prometheus reads.
//!
//! Owns the registry, the prefix `causeway`, and what is true of every process: the standard `process_*` metrics and
//! `causeway_build_info`. What each component counts is a struct of its own in its crate, registered here.

mod process;

use process::Process;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of this process. Clones are handles to the same registry.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

struct Shared {
    registries: Mutex<Registries>,
    channels: ChannelMetrics,
}

struct Registries {
    /// Names that every process on earth uses, so without our prefix.
    standard: Registry,
    ours: Registry,
}

/// Counters of every channel, by its name.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChannelMetrics {
    pub(crate) depth: Family<[(&'static str, &'static str); 1], Gauge>,
    pub(crate) sent: Family<[(&'static str, &'static str); 1], Counter>,
    pub(crate) dropped: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry with the metrics that every process has.
    pub fn new() -> Self {
        let mut registries =
            Registries { standard: Registry::default(), ours: Registry::with_prefix("causeway") };
        registries.standard.register_collector(Box::new(Process));
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registries.ours.register("build", "What this process was built from", build);
        let channels = ChannelMetrics::default();
        let sub = registries.ours.sub_registry_with_prefix("channel");
        sub.register("depth", "Messages that wait in the channels of this name", channels.depth.clone());
        sub.register("sent", "Messages that went into the channels of this name", channels.sent.clone());
        sub.register(
            "dropped",
            "Messages dropped because a channel of this name was full",
            channels.dropped.clone(),
        );
        Self { shared: Arc::new(Shared { registries: Mutex::new(registries), channels }) }
    }

    /// Registers metrics under the prefix `causeway`. Register each name once: a second time shows it twice, which
    /// Prometheus refuses. Do not use this `Metrics` within `register`.
    pub fn registry<R>(&self, register: impl FnOnce(&mut Registry) -> R) -> R {
        register(&mut self.lock().ours)
    }

    /// Registers metrics under the prefix `causeway_PREFIX`, as in [`Metrics::registry`].
    pub fn sub<R>(&self, prefix: &str, register: impl FnOnce(&mut Registry) -> R) -> R {
        register(self.lock().ours.sub_registry_with_prefix(prefix))
    }

    /// All metrics as text of [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registries = self.lock();
        let encoded = encode_registry(&mut text, &registries.standard)
            .and_then(|()| encode_registry(&mut text, &registries.ours))
            .and_then(|()| encode_eof(&mut text));
        if let Err(error) = encoded {
            // a String takes everything, so it is a metric of ours that refused; the cut text then lacks its end mark
            tracing::error!(%error, "a metric could not be encoded");
        }
        text
    }

    pub(crate) fn channels(&self) -> &ChannelMetrics {
        &self.shared.channels
    }

    fn lock(&self) -> MutexGuard<'_, Registries> {
        self.shared.registries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registered_metrics_carry_the_prefix() {
        let metrics = Metrics::new();
        let (packets, up) = (Counter::<u64>::default(), Gauge::<i64>::default());
        metrics.sub("forwarder", |r| r.register("packets", "Packets forwarded", packets.clone()));
        metrics.registry(|r| r.register("up", "Always 1", up.clone()));
        packets.inc_by(3);
        up.set(1);
        let text = metrics.encode();
        assert!(text.contains("\ncauseway_forwarder_packets_total 3\n"), "{text}");
        assert!(text.contains("\ncauseway_up 1\n"), "{text}");
        assert!(
            text.contains(concat!("causeway_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n")),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn the_process_is_described_without_the_prefix() {
        let text = Metrics::new().encode();
        let value = |name: &str| -> f64 {
            let line =
                text.lines().find(|line| line.starts_with(name) && line[name.len()..].starts_with(' '));
            line.unwrap_or_else(|| panic!("no {name} in {text}")).rsplit(' ').next().unwrap().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_threads") >= 1.0);
        let now = crate::clock::since_epoch().as_secs_f64();
        let age = now - value("process_start_time_seconds");
        assert!((-2.0..3600.0).contains(&age), "{age}");
    }
}
