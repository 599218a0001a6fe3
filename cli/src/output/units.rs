//! Times, durations and lists in words.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last second that RFC 3339 has a form for: the end of the year 9999.
const LAST: u64 = 253_402_300_799;

/// A dash for what is empty.
pub(crate) fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// Names as one cell.
pub(crate) fn list(names: &[String]) -> String {
    names.join(",")
}

/// Whether.
pub(crate) fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// A number of seconds; empty for none.
pub(crate) fn seconds(seconds: Option<u64>) -> String {
    seconds.map_or_else(String::new, |s| humantime::format_duration(Duration::from_secs(s)).to_string())
}

/// A round-trip time in microseconds, as milliseconds; empty for none.
pub(crate) fn rtt(microseconds: Option<u32>) -> String {
    microseconds.map_or_else(String::new, |us| format!("{:.1}ms", f64::from(us) / 1000.0))
}

/// A time in seconds since 1970, as RFC 3339 has it.
pub(crate) fn instant(seconds: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(seconds.min(LAST));
    humantime::format_rfc3339_seconds(time).to_string()
}

/// A time in seconds since 1970 with how far it is from now.
pub(crate) fn relative(seconds: u64, now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let gap = |from: u64, to: u64| humantime::format_duration(Duration::from_secs(to - from));
    let seconds = seconds.min(LAST);
    let distance = if seconds >= now {
        format!("in {}", gap(now, seconds))
    } else {
        format!("{} ago", gap(seconds, now))
    };
    format!("{} ({distance})", instant(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_twice() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(relative(1_700_003_600, now), "2023-11-14T23:13:20Z (in 1h)");
        assert_eq!(relative(1_699_999_940, now), "2023-11-14T22:12:20Z (1m ago)");
    }

    #[test]
    fn a_time_from_the_network_cannot_panic() {
        assert_eq!(instant(u64::MAX), "9999-12-31T23:59:59Z");
        assert!(relative(u64::MAX, UNIX_EPOCH).starts_with("9999"));
    }

    #[test]
    fn what_is_unknown_is_empty() {
        assert_eq!((seconds(None), rtt(None)), (String::new(), String::new()));
        assert_eq!((seconds(Some(90)), rtt(Some(1234))), ("1m 30s".into(), "1.2ms".into()));
    }
}
