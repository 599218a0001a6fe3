//! Periods and limits.

use crate::Message;
use std::time::Duration;

/// The periods and limits of a [`Presence`](crate::Presence). All gateways of a cluster should use the same periods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceConfig {
    /// How long a local workload counts as alive after its last probe or control traffic. 1.5 s.
    pub lease: Duration,
    /// How long a sibling gateway may be silent before it counts as dead. 1.5 s; keep it at three heartbeats or more.
    pub gateway_silence: Duration,
    /// How long the rows of a dead or restarted gateway stay, so that its sidecars re-attach first. 5 s.
    pub dead_gateway_grace: Duration,
    /// How often a sibling is told that this gateway is alive and what its version is. 500 ms.
    pub heartbeat: Duration,
    /// How often a sibling is told the digest of this gateway's table. 2 s.
    pub digest_interval: Duration,
    /// The shortest time between two requests for the same sibling's rows, and between two answers to the same sibling.
    /// 200 ms.
    pub request_interval: Duration,
    /// The shortest time between two messages with changes to the same sibling, unless there are enough for a full one: changes
    /// that come in a row travel together. 10 ms.
    pub delta_interval: Duration,
    /// The shortest time between two [`ServiceChanged`](crate::Event::ServiceChanged) of the same service: the first change is
    /// told at once, those that follow together. 100 ms.
    pub service_interval: Duration,
    /// A timeout that is handled later than this after it was due means that this process itself stood still: whatever
    /// fell silent meanwhile gets another lease, at most once in `dead_gateway_grace`. 400 ms.
    pub stall: Duration,
    /// The most rows held for all siblings together. 400,000: 100,000 workloads at two gateways each, and again while the rows
    /// of dead gateways have their grace. Rows of local sidecars are not counted, so that siblings cannot crowd them out.
    pub max_rows: usize,
    /// The most rows that one gateway may own, this one or a sibling. 100,000.
    pub max_rows_per_gateway: usize,
    /// The most rows in one message, cut to [`Message::MAX_ROWS`]. 256.
    pub max_rows_per_message: usize,
    /// How many departures are remembered, so that a sibling that missed some is told those instead of the whole table.
    /// 65,536: more than leave one gateway at once, at about 60 bytes each.
    pub max_tombstones: usize,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self {
            lease: Duration::from_millis(1500),
            gateway_silence: Duration::from_millis(1500),
            dead_gateway_grace: Duration::from_secs(5),
            heartbeat: Duration::from_millis(500),
            digest_interval: Duration::from_secs(2),
            request_interval: Duration::from_millis(200),
            delta_interval: Duration::from_millis(10),
            service_interval: Duration::from_millis(100),
            stall: Duration::from_millis(400),
            max_rows: 400_000,
            max_rows_per_gateway: 100_000,
            max_rows_per_message: Message::MAX_ROWS,
            max_tombstones: 65_536,
        }
    }
}
