//! How near candidates are.

use causeway_model::Locality;
use std::time::Duration;

/// The class of a path whose round-trip time is not known: after all that are.
pub const UNKNOWN_PATH: u8 = u8::MAX;

/// Each class of paths is so many times longer than the one before.
const STEP: f64 = 1.5;
/// The shortest path that is told apart from none, in seconds.
const SHORTEST: f64 = 0.001;
/// A path keeps its class until it is so many classes away from its middle: half a class would be the border.
const KEPT: f64 = 0.8;

/// How near a candidate is, and how much its offer is worth; the smallest is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tier {
    /// The link to the offering cluster is silent.
    pub stale: bool,
    /// A last resort: nobody knows which endpoint it leads to, although endpoints are known.
    pub last_resort: bool,
    /// 0 the same zone, 1 the same region, 2 elsewhere.
    pub distance: u8,
    /// The class of the path there ([`path_class`]), if it is elsewhere; else 0.
    pub path: u8,
}

impl Tier {
    /// The tier of what runs at `place`, seen from `own`, over a path of class `path`.
    pub fn new(own: &Locality, place: &Locality, path: u8) -> Self {
        let distance = own.distance(place);
        Self { stale: false, last_resort: false, distance, path: if distance < 2 { 0 } else { path } }
    }

    /// The word for metrics.
    pub fn kind(self) -> &'static str {
        match self {
            Self { stale: true, .. } => "stale",
            Self { last_resort: true, .. } => "last-resort",
            Self { distance: 0, .. } => "zone",
            Self { distance: 1, .. } => "region",
            _ => "remote",
        }
    }
}

/// The class of a path with the round-trip time `rtt`, which was `before`: paths of one class are taken for equally long. Each is half
/// as long again as the last one. A path near the border of two classes stays in the one that it is in.
pub fn path_class(before: Option<u8>, rtt: Duration) -> u8 {
    let exact = (rtt.as_secs_f64().max(SHORTEST) / SHORTEST).ln() / STEP.ln();
    if let Some(before) = before.filter(|before| *before != UNKNOWN_PATH)
        && (exact - f64::from(before)).abs() <= KEPT
    {
        return before;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 254")]
    let class = exact.round().clamp(0.0, f64::from(UNKNOWN_PATH - 1)) as u8;
    class
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tier(stale: bool, last_resort: bool, distance: u8, path: u8) -> Tier {
        Tier { stale, last_resort, distance, path }
    }

    #[test]
    fn the_nearer_is_better_and_silence_is_worst() {
        let order = [
            tier(false, false, 0, 0),
            tier(false, false, 1, 0),
            tier(false, false, 2, 3),
            tier(false, false, 2, UNKNOWN_PATH),
            tier(false, true, 0, 0),
            tier(true, false, 0, 0),
        ];
        assert!(order.is_sorted());
        let kinds = order.map(Tier::kind);
        assert_eq!(kinds, ["zone", "region", "remote", "remote", "last-resort", "stale"]);
    }

    #[test]
    fn a_path_counts_only_elsewhere() {
        let place = |region: &str, zone: &str| Locality { region: region.into(), zone: zone.into() };
        let own = place("east", "1");
        assert_eq!(Tier::new(&own, &place("east", "2"), 9), tier(false, false, 1, 0));
        assert_eq!(Tier::new(&own, &place("west", "1"), 9), tier(false, false, 2, 9));
    }

    proptest! {
        #[test]
        fn a_longer_path_is_never_in_a_nearer_class(one in 0u64..10_000_000, more in 0u64..10_000_000) {
            let (near, far) = (Duration::from_micros(one), Duration::from_micros(one + more));
            prop_assert!(path_class(None, near) <= path_class(None, far));
        }

        #[test]
        fn a_path_that_changes_little_stays_in_its_class(micros in 1000u64..10_000_000, percent in 92u64..=108) {
            let class = path_class(None, Duration::from_micros(micros));
            let after = Duration::from_micros(micros * percent / 100);
            prop_assert_eq!(path_class(Some(class), after), class);
        }
    }
}
