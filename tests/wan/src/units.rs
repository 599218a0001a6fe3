//! The units of the command line: rates, losses and sizes as text.

use std::num::NonZeroU64;

/// A value that is not in its unit's notation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {value:?}: {rule}")]
pub struct UnitError {
    /// What the value was to be.
    pub what: &'static str,
    /// The value as given.
    pub value: String,
    /// How to write it.
    pub rule: &'static str,
}

impl UnitError {
    fn new(what: &'static str, value: &str, rule: &'static str) -> Self {
        Self { what, value: value.chars().take(64).collect(), rule }
    }
}

/// Splits `1.5gbit` into `1.5` and `gbit`, lower-cased; `None` unless the number is finite and not negative.
fn split(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number = number.parse::<f64>().ok().filter(|n| n.is_finite())?;
    Some((number, unit.trim().to_ascii_lowercase()))
}

fn scaled(number: f64, factor: f64) -> Option<u64> {
    let value = (number * factor).round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked first")]
    (0.0..9.0e18).contains(&value).then_some(value as u64)
}

/// A rate in bits per second: `1gbit`, `250mbit`, `64kbit`, `9600bit`.
///
/// # Errors
/// If the number or the unit is not one of these, or the rate is zero.
pub fn parse_rate(text: &str) -> Result<NonZeroU64, UnitError> {
    let rate = split(text).and_then(|(number, unit)| {
        let factor = match unit.as_str() {
            "bit" => 1.0,
            "kbit" => 1e3,
            "mbit" => 1e6,
            "gbit" => 1e9,
            _ => return None,
        };
        NonZeroU64::new(scaled(number, factor)?)
    });
    rate.ok_or_else(|| {
        UnitError::new("rate", text, "write a number above zero and bit, kbit, mbit or gbit: 1gbit")
    })
}

/// A loss as a fraction of 1: `1%` is 0.01, `0.01` too.
///
/// # Errors
/// If it is not a number, or not between 0 and 100 %.
pub fn parse_loss(text: &str) -> Result<f64, UnitError> {
    let loss = split(text).and_then(|(number, unit)| match unit.as_str() {
        "%" => Some(number / 100.0),
        "" => Some(number),
        _ => None,
    });
    loss.filter(|loss| (0.0..=1.0).contains(loss)).ok_or_else(|| {
        UnitError::new("loss", text, "write a percentage from 0% to 100%, or a fraction from 0 to 1")
    })
}

/// A size in bytes: `4MiB`, `64KiB`, `1GiB`, `1500`, `1500B`.
///
/// # Errors
/// If the number or the unit is not one of these.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let size = split(text).and_then(|(number, unit)| {
        let factor = match unit.as_str() {
            "" | "b" => 1.0,
            "kib" => 1024.0,
            "mib" => 1024.0 * 1024.0,
            "gib" => 1024.0 * 1024.0 * 1024.0,
            _ => return None,
        };
        scaled(number, factor)
    });
    size.ok_or_else(|| UnitError::new("size", text, "write a number and B, KiB, MiB or GiB: 4MiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!(parse_rate("1gbit").unwrap().get(), 1_000_000_000);
        assert_eq!(parse_rate("2.5 Mbit").unwrap().get(), 2_500_000);
        for bad in ["", "0mbit", "gbit", "1", "1gb", "-1gbit", "1e9bit", "99999999999999gbit"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn losses() {
        assert_eq!(parse_loss("1%").unwrap(), 0.01);
        assert_eq!(parse_loss("0.5").unwrap(), 0.5);
        for bad in ["", "101%", "2", "-1%", "1 percent", "."] {
            assert!(parse_loss(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("4MiB").unwrap(), 4 << 20);
        assert_eq!(parse_bytes("1500").unwrap(), 1500);
        for bad in ["", "MiB", "4MB", "-1"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
