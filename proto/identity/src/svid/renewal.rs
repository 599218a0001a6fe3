//! When an SVID is to be renewed.

use crate::CLOCK_SLACK;
use std::time::SystemTime;

/// How far from two thirds of the life a renewal may lie, in parts of the life: five hundredths to either side.
const SPREAD: u32 = 20;
/// The steps of the spread.
const STEPS: u32 = 10_000;

/// When to ask for the successor of a certificate that is valid from `not_before` to `not_after`: after two thirds of
/// the life that it had when it was issued, give or take a twentieth of that life, by `key` (any hash of its key). So a
/// quarter is left to find a gateway, and what was issued together is not renewed together. The same certificate always
/// gives the same moment.
pub(super) fn renewal(not_before: SystemTime, not_after: SystemTime, key: &[u8; 32]) -> SystemTime {
    // the slack at the beginning is no life: of a short one nothing would be left
    let issued =
        not_before.checked_add(CLOCK_SLACK).filter(|issued| *issued < not_after).unwrap_or(not_before);
    let life = not_after.duration_since(issued).unwrap_or_default();
    let [a, b, c, d, ..] = *key;
    let step = u32::from_be_bytes([a, b, c, d]) % (STEPS + 1);
    let earliest = life * 2 / 3 - life / SPREAD;
    let jitter = (life / SPREAD * 2).mul_f64(f64::from(step) / f64::from(STEPS));
    issued.checked_add(earliest + jitter).unwrap_or(not_after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timestamp::from_unix;
    use proptest::prelude::*;
    use std::time::Duration;

    /// How long before the end of a life that long the renewal must be begun at the latest.
    fn margin(life: Duration) -> Duration {
        (life / 10).min(Duration::from_secs(3600))
    }

    #[test]
    fn two_thirds_with_a_spread_by_key() {
        let issued = from_unix(1_800_000_000);
        let day = Duration::from_secs(24 * 3600);
        let at = |key: [u8; 32]| {
            renewal(issued - CLOCK_SLACK, issued + day, &key).duration_since(issued).unwrap().as_secs()
        };
        assert_eq!(at([0; 32]), 57_600 - 4_320);
        let mut last = [0; 32];
        last[..4].copy_from_slice(&STEPS.to_be_bytes());
        assert_eq!(at(last), 57_600 + 4_320);
        last[..4].copy_from_slice(&(STEPS / 2).to_be_bytes());
        assert_eq!(at(last), 57_600);
    }

    #[test]
    fn a_short_life_is_not_over_when_it_begins() {
        let issued = from_unix(1_800_000_000);
        let due = renewal(issued - CLOCK_SLACK, issued + Duration::from_secs(60), &[7; 32]);
        assert!(due > issued + Duration::from_secs(36) && due < issued + Duration::from_secs(44));
    }

    proptest! {
        #[test]
        fn there_is_always_time_left(life in 1u64..400 * 86_400, key: [u8; 32]) {
            let (issued, life) = (from_unix(1_800_000_000), Duration::from_secs(life));
            let due = renewal(issued - CLOCK_SLACK, issued + life, &key);
            prop_assert!(due > issued && due <= issued + life - margin(life));
            prop_assert_eq!(due, renewal(issued - CLOCK_SLACK, issued + life, &key));
        }

        #[test]
        fn odd_certificates_never_panic(from: u32, to: u32, key: [u8; 32]) {
            let (from, to) = (from_unix(from.into()), from_unix(to.into()));
            prop_assert!(renewal(from, to, &key) <= to.max(from));
        }
    }
}
