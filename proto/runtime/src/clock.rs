//! The wall clock, for what is written down: certificates, audit, tokens. Whatever measures time passing uses
//! `Instant` instead.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since 1970-01-01 UTC; zero if the clock stands before that.
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Whole seconds since 1970-01-01 UTC.
pub fn unix_now() -> u64 {
    since_epoch().as_secs()
}

/// Milliseconds since 1970-01-01 UTC.
pub fn unix_now_ms() -> u64 {
    u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_milliseconds_agree() {
        let (before, ms, after) = (unix_now(), unix_now_ms(), unix_now());
        assert!((before..=after).contains(&(ms / 1000)));
        assert!(before > 1_700_000_000);
    }
}
