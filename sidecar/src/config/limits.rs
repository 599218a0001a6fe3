//! The bounds of a sidecar.

use causeway_runtime::config::{ConfigDuration, Section};
use serde::Serialize;
use std::time::Duration;

/// What a sidecar takes on at most, and how long it waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    /// TCP connections that it carries at once, in each direction; 1 to 1,000,000. Also the most peers that may be
    /// connected to it.
    pub max_connections: u32,
    /// Streams that one peer may have open at once; 1 to 100,000.
    pub max_streams_per_peer: u32,
    /// How long an application's connection waits for its service to answer; 100 ms to 5 min.
    pub connect_timeout: ConfigDuration,
    /// How long the application that is served may take to accept a connection; 100 ms to 5 min.
    pub upstream_connect_timeout: ConfigDuration,
    /// How long a TCP connection may carry nothing either way before it is reset; `0s` is for ever, 1 s to 7 days. An hour, as
    /// Envoy and Istio have it: connections whose other end is gone without a word do not pile up, and protocols with
    /// long pauses send keep-alives more often than that.
    pub idle_timeout: ConfigDuration,
    /// Flows of UDP that it carries at once, in each direction; 1 to 1,000,000. A flow is what comes from one address of an
    /// application for one port of a service; each that is served takes a descriptor.
    pub max_flows: u32,
    /// How long a flow may carry nothing either way before it ends, 1 s to 1 h; what comes later begins another, perhaps to
    /// another endpoint. A minute, as Envoy has it: longer than most protocols are silent.
    pub udp_idle_timeout: ConfigDuration,
    /// How many descriptors connections leave for everything else; 16 to 100,000. A connection takes one, and the soft limit
    /// is raised to the hard limit at the start. The usual 128 are enough for gateways, telemetry, checks and files.
    pub reserved_descriptors: u32,
    /// How many endpoints of a locality it uses for one service, and stays connected to; 1 to 16. Gateways tell no more than 16.
    pub endpoints_per_service: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_streams_per_peer: 4096,
            connect_timeout: ConfigDuration::from_secs(5),
            upstream_connect_timeout: ConfigDuration::from_secs(5),
            idle_timeout: ConfigDuration::from_secs(3600),
            max_flows: 10_000,
            udp_idle_timeout: ConfigDuration::from_secs(60),
            reserved_descriptors: 128,
            endpoints_per_service: 16,
        }
    }
}

impl Limits {
    /// Reads the table `[limits]`.
    pub(super) fn read(section: &Section) -> Self {
        let usual = Self::default();
        let limits = Self {
            max_connections: section.or("max-connections", usual.max_connections),
            max_streams_per_peer: section.or("max-streams-per-peer", usual.max_streams_per_peer),
            connect_timeout: section.or("connect-timeout", usual.connect_timeout),
            upstream_connect_timeout: section.or("upstream-connect-timeout", usual.upstream_connect_timeout),
            idle_timeout: section.or("idle-timeout", usual.idle_timeout),
            max_flows: section.or("max-flows", usual.max_flows),
            udp_idle_timeout: section.or("udp-idle-timeout", usual.udp_idle_timeout),
            reserved_descriptors: section.or("reserved-descriptors", usual.reserved_descriptors),
            endpoints_per_service: section.or("endpoints-per-service", usual.endpoints_per_service),
        };
        for (key, value, most) in [
            ("max-connections", limits.max_connections, 1_000_000),
            ("max-flows", limits.max_flows, 1_000_000),
            ("max-streams-per-peer", limits.max_streams_per_peer, 100_000),
            ("endpoints-per-service", limits.endpoints_per_service, 16),
        ] {
            if !(1..=most).contains(&value) {
                section.reject(key, format!("write a whole number from 1 to {most}"));
            }
        }
        for (key, value) in [
            ("connect-timeout", limits.connect_timeout),
            ("upstream-connect-timeout", limits.upstream_connect_timeout),
        ] {
            if !(Duration::from_millis(100)..=Duration::from_secs(300)).contains(&*value) {
                section.reject(key, "write a duration from 100ms to 5m");
            }
        }
        if !(16..=100_000).contains(&limits.reserved_descriptors) {
            section.reject("reserved-descriptors", "write a whole number from 16 to 100000");
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&*limits.udp_idle_timeout) {
            section.reject("udp-idle-timeout", "write a duration from 1s to 1h");
        }
        let idle = limits.idle_timeout.get();
        if !idle.is_zero() && !(Duration::from_secs(1)..=Duration::from_secs(7 * 86_400)).contains(&idle) {
            section.reject("idle-timeout", "write a duration from 1s to 7d, or 0s for none");
        }
        limits
    }
}
