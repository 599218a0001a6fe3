//! What the client counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The metrics of a sidecar's control connections. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct ClientMetrics {
    /// Control connections that a gateway has welcomed.
    pub connections: Gauge,
    /// Control connections that ended and were not ended by this side.
    pub reconnects: Counter,
    /// SVIDs that were renewed.
    pub renewals: Counter,
    /// Tries to renew the SVID that failed.
    pub renewals_failed: Counter,
    /// When the SVID in use expires, in seconds since 1970.
    pub svid_expires_at: Gauge,
    /// Services in use.
    pub subscriptions: Gauge,
    /// Subscriptions that were not made because there were too many.
    pub subscriptions_refused: Counter,
    /// Names whose virtual address is remembered.
    pub vips: Gauge,
    /// Questions for virtual addresses, or for their names, that were not answered.
    pub vip_failures: Counter,
    /// Instances that are watched.
    pub watched: Gauge,
    /// Watches that were not made because there were too many.
    pub watches_refused: Counter,
    /// Instances that gateways said are gone.
    pub instances_gone: Counter,
    /// Changes of a service that were published.
    pub service_updates: Counter,
    /// Messages of gateways that were dropped because they break a limit or a rule.
    pub refused_messages: Counter,
    /// Gateways of the own cluster that answer probes.
    pub gateways_alive: Gauge,
    /// 1 while no gateway answers and the sidecar goes on with what it knows, else 0.
    pub alone: Gauge,
    /// Writes of the state folder that failed.
    pub save_errors: Counter,
}

impl ClientMetrics {
    /// Adds the metrics to `registry`, under `control_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("control");
        for (name, help, gauge) in [
            ("connections", "Control connections that stand", &self.connections),
            ("svid_expires_at", "When the SVID expires, in seconds since 1970", &self.svid_expires_at),
            ("subscriptions", "Services in use", &self.subscriptions),
            ("vips", "Names whose virtual address is remembered", &self.vips),
            ("watched", "Instances that are watched", &self.watched),
            ("gateways_alive", "Gateways of the own cluster that answer", &self.gateways_alive),
            ("alone", "1 while no gateway answers", &self.alone),
        ] {
            registry.register(name, help, gauge.clone());
        }
        for (name, help, counter) in [
            ("reconnects", "Control connections that were lost", &self.reconnects),
            ("renewals", "SVIDs renewed", &self.renewals),
            ("renewals_failed", "Tries to renew the SVID that failed", &self.renewals_failed),
            (
                "subscriptions_refused",
                "Subscriptions beyond the limit, which learn nothing",
                &self.subscriptions_refused,
            ),
            ("watches_refused", "Watches beyond the limit, which learn nothing", &self.watches_refused),
            ("vip_failures", "Questions for virtual addresses that were not answered", &self.vip_failures),
            ("instances_gone", "Watched instances that are gone", &self.instances_gone),
            ("service_updates", "Changes of services in use", &self.service_updates),
            ("refused_messages", "Messages of gateways that break a rule", &self.refused_messages),
            ("save_errors", "Writes of the state folder that failed", &self.save_errors),
        ] {
            registry.register(name, help, counter.clone());
        }
    }
}
