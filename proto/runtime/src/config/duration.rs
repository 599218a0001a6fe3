//! Durations as people write them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

/// A duration written as `"15s"`, `"1m 30s"` or `"250ms"`, in files, flags and the effective config alike. A number
/// without a unit is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigDuration(pub Duration);

impl ConfigDuration {
    /// A duration of whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// A duration of whole milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// The duration.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl Deref for ConfigDuration {
    type Target = Duration;

    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl From<Duration> for ConfigDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl From<ConfigDuration> for Duration {
    fn from(duration: ConfigDuration) -> Self {
        duration.0
    }
}

/// A text that is no duration.
#[derive(Debug, thiserror::Error)]
#[error("{0}; write a number and a unit, for example 15s, 500ms or 1h 30m")]
pub struct DurationError(humantime::DurationError);

impl FromStr for ConfigDuration {
    type Err = DurationError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        humantime::parse_duration(s).map(Self).map_err(DurationError)
    }
}

impl fmt::Display for ConfigDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for ConfigDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConfigDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!("1m 30s".parse::<ConfigDuration>().unwrap(), ConfigDuration::from_secs(90));
        assert_eq!(ConfigDuration::from_millis(250).to_string(), "250ms");
        assert!("15".parse::<ConfigDuration>().unwrap_err().to_string().contains("unit"));
        for bad in ["", "s", "15 parsecs", "-1s", "99999999999999999999s", "18446744073709551615y"] {
            assert!(bad.parse::<ConfigDuration>().is_err(), "{bad}");
        }
    }

    #[test]
    fn serde_keeps_the_text() {
        let json = serde_json::to_string(&ConfigDuration::from_secs(15)).unwrap();
        assert_eq!(json, "\"15s\"");
        assert_eq!(serde_json::from_str::<ConfigDuration>(&json).unwrap(), ConfigDuration::from_secs(15));
    }

    proptest! {
        #[test]
        fn a_duration_prints_as_it_parses(secs in 0u64..1 << 40, nanos in 0u32..1_000_000_000) {
            let duration = ConfigDuration(Duration::new(secs, nanos));
            prop_assert_eq!(duration.to_string().parse::<ConfigDuration>().unwrap(), duration);
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<ConfigDuration>();
        }
    }
}
