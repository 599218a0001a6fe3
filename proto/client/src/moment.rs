//! Times as operators read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last second of the year 9999, in seconds since 1970.
const LAST: u64 = 253_402_300_799;

/// Seconds since 1970 as RFC 3339 writes them, in UTC.
pub(crate) fn show(unix: u64) -> String {
    if unix > LAST {
        return "a time after the year 9999".to_owned();
    }
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(unix)).to_string()
}

/// Whole seconds since 1970; 0 for a time before.
pub(crate) fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_text() {
        assert_eq!(show(1_800_000_000), "2027-01-15T08:00:00Z");
        assert_eq!(show(LAST), "9999-12-31T23:59:59Z");
        assert_eq!(show(u64::MAX), "a time after the year 9999");
        assert_eq!(unix(UNIX_EPOCH + Duration::from_millis(1999)), 1);
    }
}
