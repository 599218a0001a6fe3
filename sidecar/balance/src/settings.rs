//! What the choice can be tuned by.

use std::time::Duration;

/// The settings of a [`Balancer`](crate::Balancer).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// So many failures of an endpoint in a row eject it; at least 1. Where an application refuses, one is enough.
    pub consecutive_failures: u32,
    /// For how long an endpoint is ejected first. It doubles with each further ejection.
    pub ejection: Duration,
    /// The longest ejection.
    pub longest_ejection: Duration,
    /// The most endpoints of a tier that are ejected at a time, in percent. One always may be, if there is another.
    pub max_ejected: u8,
    /// A tier gets all its load while at least so many percent of its endpoints are available; 1 to 100.
    pub healthy_share: u8,
    /// When a tier has more open connections for each endpoint than this, new ones go to the next; `None` is never.
    pub spill_in_flight: Option<u32>,
    /// How long an endpoint that is new, or was ejected, takes to get its whole share.
    pub slow_start: Duration,
    /// How long a nearer tier takes to get all the load back.
    pub return_time: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            consecutive_failures: 3,
            ejection: Duration::from_millis(500),
            longest_ejection: Duration::from_secs(30),
            max_ejected: 50,
            healthy_share: 70,
            spill_in_flight: None,
            slow_start: Duration::from_secs(5),
            return_time: Duration::from_secs(5),
        }
    }
}
