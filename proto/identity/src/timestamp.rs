//! Conversions between the clocks of the standard library, X.509 and rustls, and times as operators read them.

use rustls_pki_types::UnixTime;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The time `seconds` after (or before) 1970.
pub(crate) fn from_unix(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let moment =
        if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    moment.unwrap_or(UNIX_EPOCH)
}

/// The whole seconds of `time` since 1970; a time before that is 1970.
pub(crate) fn to_unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// `time` as rustls counts it; a time before 1970 is 1970.
pub(crate) fn to_tls(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A time that rustls gave.
pub(crate) fn from_tls(time: UnixTime) -> SystemTime {
    from_unix(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// `time` as a calendar date, in whole seconds; `None` before 1970 and after the year 9999, which X.509 cannot say.
pub(crate) fn to_date(time: SystemTime) -> Option<OffsetDateTime> {
    let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()
}

/// `time` as RFC 3339 writes it, in UTC.
pub(crate) fn show(time: SystemTime) -> String {
    let text = to_date(time).and_then(|date| date.format(&Rfc3339).ok());
    text.unwrap_or_else(|| "a time outside 1970 to 9999".into())
}

/// How long from `from` to `to`, in the unit that reads best; zero if `to` is the earlier.
pub(crate) fn distance(from: SystemTime, to: SystemTime) -> String {
    match to.duration_since(from).unwrap_or_default().as_secs() {
        s if s >= 2 * 86_400 => format!("{} days", s / 86_400),
        s if s >= 2 * 3_600 => format!("{} hours", s / 3_600),
        s if s >= 2 * 60 => format!("{} minutes", s / 60),
        s => format!("{s} seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well_and_never_panic() {
        assert_eq!(show(from_unix(1_700_000_000)), "2023-11-14T22:13:20Z");
        assert_eq!(distance(from_unix(0), from_unix(7200)), "2 hours");
        assert_eq!(distance(from_unix(9), from_unix(0)), "0 seconds");
        for extreme in [i64::MIN, -1, i64::MAX] {
            assert!(show(from_unix(extreme)).contains("19"), "{extreme}");
        }
        assert_eq!(from_tls(to_tls(from_unix(5))), from_unix(5));
    }
}
