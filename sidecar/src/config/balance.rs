//! How connections are spread over endpoints, and what happens when some fail.

use causeway_balance::Settings;
use causeway_runtime::config::{ConfigDuration, Section};
use serde::Serialize;
use std::time::Duration;

/// How endpoints are chosen, and left alone when they fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BalanceConfig {
    /// How many endpoints are tried for one connection, while its application cannot have noticed; 1 to 16.
    pub attempts: u32,
    /// How long one of these attempts may take to connect while there are others to try; 100 ms to 1 min. A second is longer than
    /// a handshake over any distance.
    pub attempt_timeout: ConfigDuration,
    /// When nothing at all is heard of another cluster for so long although something should be, new connections go to other
    /// clusters, if any has the service; 100 ms to 1 min. A change of gateway takes less than half of the usual 600 ms.
    pub suspect_after: ConfigDuration,
    /// So many failures of an endpoint in a row eject it; 1 to 100. A refusal of its application does at once.
    pub consecutive_failures: u32,
    /// For how long an endpoint is ejected first, 10 ms to 1 h; it doubles with each further ejection.
    pub ejection_time: ConfigDuration,
    /// The longest ejection; from `ejection-time` to 1 h.
    pub max_ejection_time: ConfigDuration,
    /// How many percent of the endpoints of a locality may be ejected at a time; 0 to 100. If it is not 0, one always may be
    /// while there is another endpoint.
    pub max_ejected: u8,
    /// A locality gets its whole load while so many percent of its endpoints are well; 1 to 100. What is missing below that
    /// spills over to the next. 70 is Envoy's over-provisioning factor of 1.4.
    pub healthy_share: u8,
    /// A locality whose endpoints have more open connections of this sidecar than so many each shares new ones with the next;
    /// 0 is no bound.
    pub spill_in_flight: u32,
    /// How long an endpoint that is new, or was ejected, takes to get its whole share; at most 10 min.
    pub slow_start: ConfigDuration,
    /// How long it takes until all connections go to a nearer locality again that had failed; 100 ms to 10 min. Each sidecar
    /// takes up to a fifth more or less.
    pub return_time: ConfigDuration,
}

impl Default for BalanceConfig {
    fn default() -> Self {
        let usual = Settings::default();
        Self {
            attempts: 3,
            attempt_timeout: ConfigDuration::from_secs(1),
            suspect_after: ConfigDuration(Duration::from_millis(600)),
            consecutive_failures: usual.consecutive_failures,
            ejection_time: ConfigDuration(usual.ejection),
            max_ejection_time: ConfigDuration(usual.longest_ejection),
            max_ejected: usual.max_ejected,
            healthy_share: usual.healthy_share,
            spill_in_flight: 0,
            slow_start: ConfigDuration(usual.slow_start),
            return_time: ConfigDuration(usual.return_time),
        }
    }
}

impl BalanceConfig {
    /// Reads the table `[balance]`.
    pub(super) fn read(section: &Section) -> Self {
        let usual = Self::default();
        let config = Self {
            attempts: section.or("attempts", usual.attempts),
            attempt_timeout: section.or("attempt-timeout", usual.attempt_timeout),
            suspect_after: section.or("suspect-after", usual.suspect_after),
            consecutive_failures: section.or("consecutive-failures", usual.consecutive_failures),
            ejection_time: section.or("ejection-time", usual.ejection_time),
            max_ejection_time: section.or("max-ejection-time", usual.max_ejection_time),
            max_ejected: section.or("max-ejected", usual.max_ejected),
            healthy_share: section.or("healthy-share", usual.healthy_share),
            spill_in_flight: section.or("spill-in-flight", usual.spill_in_flight),
            slow_start: section.or("slow-start", usual.slow_start),
            return_time: section.or("return-time", usual.return_time),
        };
        config.check(section);
        config
    }

    fn check(&self, section: &Section) {
        for (key, value, (least, most)) in [
            ("attempts", self.attempts, (1, 16)),
            ("consecutive-failures", self.consecutive_failures, (1, 100)),
            ("max-ejected", self.max_ejected.into(), (0, 100)),
            ("healthy-share", self.healthy_share.into(), (1, 100)),
            ("spill-in-flight", self.spill_in_flight, (0, 1_000_000)),
        ] {
            if !(least..=most).contains(&value) {
                section.reject(key, format!("write a whole number from {least} to {most}"));
            }
        }
        let (ms, minutes) = (Duration::from_millis, |count: u64| Duration::from_secs(count * 60));
        for (key, value, (least, most), text) in [
            ("attempt-timeout", self.attempt_timeout, (ms(100), minutes(1)), "from 100ms to 1m"),
            ("suspect-after", self.suspect_after, (ms(100), minutes(1)), "from 100ms to 1m"),
            ("ejection-time", self.ejection_time, (ms(10), minutes(60)), "from 10ms to 1h"),
            ("slow-start", self.slow_start, (ms(0), minutes(10)), "of at most 10m"),
            ("return-time", self.return_time, (ms(100), minutes(10)), "from 100ms to 10m"),
        ] {
            if !(least..=most).contains(&*value) {
                section.reject(key, format!("write a duration {text}"));
            }
        }
        if !(*self.ejection_time..=minutes(60)).contains(&*self.max_ejection_time) {
            section.reject("max-ejection-time", "write a duration from ejection-time to 1h");
        }
    }

    /// What the choice itself needs of it.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            consecutive_failures: self.consecutive_failures,
            ejection: self.ejection_time.get(),
            longest_ejection: self.max_ejection_time.get(),
            max_ejected: self.max_ejected,
            healthy_share: self.healthy_share,
            spill_in_flight: Some(self.spill_in_flight).filter(|most| *most > 0),
            slow_start: self.slow_start.get(),
            return_time: self.return_time.get(),
        }
    }
}
