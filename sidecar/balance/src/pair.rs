//! The better of two candidates.

/// Latencies that differ by less, in seconds, are equal: that much is noise.
const NOISE: f64 = 0.002;
/// Costs whose ratio is less are equal.
const BAND: f64 = 2.0;

/// What it costs to give a candidate one more connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// How long it takes, in seconds.
    pub(crate) latency: f64,
    /// How many connections it has for its weight, with the one that it would get.
    pub(crate) load: f64,
    /// How many it was given for its weight in all.
    pub(crate) served: f64,
}

impl Cost {
    /// Whether this is better than `other`; between equals, the one that was given less.
    pub(crate) fn beats(&self, other: &Self) -> bool {
        let ratio = ratio(self.latency, other.latency, NOISE) * ratio(self.load, other.load, 0.0);
        if ratio == 1.0 { self.served < other.served } else { ratio < 1.0 }
    }
}

/// Whether a latency is worse than the best one by more than noise.
pub(crate) fn is_worse(latency: f64, best: f64) -> bool {
    ratio(latency, best, NOISE) > 1.0
}

/// How much greater `one` is than `other`; 1 if they count as equal.
#[expect(clippy::float_cmp, reason = "equals may be 0, which nothing can be divided by")]
fn ratio(one: f64, other: f64, noise: f64) -> f64 {
    if one == other || (one - other).abs() <= noise {
        return 1.0;
    }
    let ratio = one / other;
    if ratio > 1.0 / BAND && ratio < BAND { 1.0 } else { ratio }
}

/// Two different places in `weights`, drawn by weight; the same one twice if only one has any weight. `None` if none has.
pub(crate) fn draw(weights: &[f64], random: [f64; 2]) -> Option<(usize, usize)> {
    let first = one(weights, None, random[0])?;
    Some((first, one(weights, Some(first), random[1]).unwrap_or(first)))
}

fn one(weights: &[f64], without: Option<usize>, random: f64) -> Option<usize> {
    let open = || weights.iter().enumerate().filter(|(at, weight)| Some(*at) != without && **weight > 0.0);
    let mut left = random * open().map(|(_, weight)| weight).sum::<f64>();
    for (at, weight) in open() {
        left -= weight;
        if left < 0.0 {
            return Some(at);
        }
    }
    // rounding may leave a rest
    open().next_back().map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cost(latency: f64, load: f64, served: f64) -> Cost {
        Cost { latency, load, served }
    }

    #[test]
    fn equals_go_by_what_they_were_given() {
        let (a, b) = (cost(0.010, 1.0, 3.0), cost(0.019, 1.9, 4.0));
        assert!(a.beats(&b) && !b.beats(&a));
        let b = cost(0.019, 1.9, 2.0);
        assert!(!a.beats(&b) && b.beats(&a));
        // noise
        assert!(cost(0.0022, 1.0, 1.0).beats(&cost(0.0003, 1.0, 2.0)));
    }

    #[test]
    fn what_is_slow_or_busy_loses() {
        assert!(cost(0.005, 1.0, 9.0).beats(&cost(0.050, 1.0, 1.0)));
        assert!(cost(0.005, 1.0, 9.0).beats(&cost(0.005, 2.0, 1.0)));
        // ten times faster, but with thirty times the load
        assert!(cost(0.050, 1.0, 9.0).beats(&cost(0.005, 30.0, 1.0)));
        assert!(cost(0.0, 1.0, 9.0).beats(&cost(0.050, 1.0, 1.0)));
    }

    proptest! {
        #[test]
        fn two_are_drawn_and_they_differ(weights in prop::collection::vec(0.0f64..1000.0, 0..20), a in 0.0f64..1.0, b in 0.0f64..1.0) {
            let open = weights.iter().filter(|weight| **weight > 0.0).count();
            match draw(&weights, [a, b]) {
                None => prop_assert_eq!(open, 0),
                Some((first, second)) => {
                    prop_assert!(weights[first] > 0.0 && weights[second] > 0.0);
                    prop_assert_eq!(first == second, open == 1);
                }
            }
        }

        #[test]
        fn of_two_at_most_one_is_better(a in (0.0f64..1.0, 0.01f64..9.0, 0.0f64..9.0), b in (0.0f64..1.0, 0.01f64..9.0, 0.0f64..9.0)) {
            let (a, b) = (cost(a.0, a.1, a.2), cost(b.0, b.1, b.2));
            prop_assert!(!(a.beats(&b) && b.beats(&a)));
        }
    }
}
