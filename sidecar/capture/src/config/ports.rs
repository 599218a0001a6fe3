//! A set of ports, written as ports and ranges.

use std::fmt;
use std::ops::RangeInclusive;

/// A set of ports 1 to 65535. Displayed as nftables and people write it: `22, 8000-8010`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// In order; neither overlapping nor touching.
    ranges: Vec<RangeInclusive<u16>>,
}

impl Ports {
    /// Reads `8080` or `8000-8010`.
    ///
    /// # Errors
    /// What to write instead.
    pub fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
        let rule = || "write a port from 1 to 65535, or a range such as 8000-8010".to_owned();
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|&port| port != 0).ok_or_else(rule);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            return Err(format!("the range ends before it begins: write {last}-{first}"));
        }
        Ok(first..=last)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether `port` is one of them.
    pub fn contains(&self, port: u16) -> bool {
        self.ranges.iter().any(|range| range.contains(&port))
    }
}

impl FromIterator<RangeInclusive<u16>> for Ports {
    fn from_iter<I: IntoIterator<Item = RangeInclusive<u16>>>(ranges: I) -> Self {
        let mut given: Vec<_> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
        given.sort_unstable_by_key(|range| *range.start());
        let mut merged: Vec<RangeInclusive<u16>> = Vec::with_capacity(given.len());
        for range in given {
            match merged.last_mut() {
                Some(before) if *range.start() <= before.end().saturating_add(1) => {
                    *before = *before.start()..=*before.end().max(range.end());
                }
                _ => merged.push(range),
            }
        }
        Self { ranges: merged }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges.iter().enumerate() {
            let gap = if index == 0 { "" } else { ", " };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{gap}{first}")?,
                (first, last) => write!(f, "{gap}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ports_and_ranges_are_read() {
        assert_eq!(Ports::range("80"), Ok(80..=80));
        assert_eq!(Ports::range("8000-8010"), Ok(8000..=8010));
        for bad in ["", "0", "65536", "-1", "80-", "a", "9-8", "1-2-3"] {
            assert!(Ports::range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_touches_is_one_range() {
        let ports: Ports = [443..=443, 81..=90, 80..=80, 85..=95, 65535..=65535].into_iter().collect();
        assert_eq!(ports.to_string(), "80-95, 443, 65535");
        assert!(ports.contains(80) && ports.contains(95) && !ports.contains(96));
        assert!(Ports::default().is_empty());
    }

    proptest! {
        #[test]
        fn merging_changes_no_membership(ranges in prop::collection::vec((1u16.., 0u16..50), 0..8), probe in 1u16..) {
            let ranges: Vec<_> = ranges.into_iter().map(|(first, more)| first..=first.saturating_add(more)).collect();
            let ports: Ports = ranges.iter().cloned().collect();
            prop_assert_eq!(ports.contains(probe), ranges.iter().any(|range| range.contains(&probe)));
            let apart = ports.ranges.windows(2).all(|pair| u32::from(*pair[0].end()) + 1 < u32::from(*pair[1].start()));
            prop_assert!(apart, "{ports}");
        }
    }
}
