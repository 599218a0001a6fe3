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
    /// How many endpoints of one service it stays connected to; 1 to 16.
    pub endpoints_per_service: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_streams_per_peer: 4096,
            connect_timeout: ConfigDuration::from_secs(5),
            upstream_connect_timeout: ConfigDuration::from_secs(5),
            endpoints_per_service: 8,
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
            endpoints_per_service: section.or("endpoints-per-service", usual.endpoints_per_service),
        };
        for (key, value, most) in [
            ("max-connections", limits.max_connections, 1_000_000),
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
        limits
    }
}
