//! How a load is split over tiers that can take a part of it each.

/// The shares of a load over tiers, nearest first, of which each can take the part of it that `capacities` says, 0 to 1. Each
/// takes what it can of what the nearer ones left. If all of them together cannot take it, they share it by what they can;
/// if none can take anything, the nearest gets all. The shares add up to 1, unless there is no tier.
pub fn split(capacities: &[f64]) -> Vec<f64> {
    let mut left = 1.0;
    let mut shares: Vec<f64> = capacities
        .iter()
        .map(|capacity| {
            let share = capacity.clamp(0.0, 1.0).min(left);
            left -= share;
            share
        })
        .collect();
    fill_up(&mut shares);
    shares
}

/// Makes `shares` add up to 1, in proportion.
pub(crate) fn fill_up(shares: &mut [f64]) {
    let total: f64 = shares.iter().sum();
    if total > 0.0 {
        shares.iter_mut().for_each(|share| *share /= total);
    } else if let Some(first) = shares.first_mut() {
        *first = 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is(capacities: &[f64], expected: &[f64]) {
        let shares = split(capacities);
        let same = shares.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(same && shares.len() == expected.len(), "{capacities:?}: {shares:?}, not {expected:?}");
    }

    #[test]
    fn what_the_nearest_cannot_take_goes_on() {
        is(&[], &[]);
        is(&[1.0, 1.0, 1.0], &[1.0, 0.0, 0.0]);
        is(&[0.7, 1.0], &[0.7, 0.3]);
        is(&[0.5, 0.3, 1.0], &[0.5, 0.3, 0.2]);
        is(&[0.0, 0.0, 1.0], &[0.0, 0.0, 1.0]);
        is(&[0.2, 0.3], &[0.4, 0.6]);
        is(&[0.0, 0.0], &[1.0, 0.0]);
    }

    proptest! {
        #[test]
        fn all_of_the_load_goes_somewhere(capacities in prop::collection::vec(0.0f64..=1.0, 1..8)) {
            let shares = split(&capacities);
            prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{:?}", shares);
            prop_assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
            if capacities.iter().sum::<f64>() >= 1.0 {
                let within = shares.iter().zip(&capacities).all(|(share, capacity)| *share <= capacity + 1e-9);
                prop_assert!(within, "{:?} {:?}", capacities, shares);
            }
        }

        #[test]
        fn a_farther_tier_gets_nothing_while_a_nearer_one_has_room(capacities in prop::collection::vec(0.0f64..=1.0, 2..8)) {
            let shares = split(&capacities);
            for (at, share) in shares.iter().enumerate().skip(1).filter(|(_, share)| **share > 1e-9) {
                let full = (0..at).all(|near| shares[near] >= capacities[near] - 1e-9);
                prop_assert!(full, "{}: {} of {:?}", at, share, capacities);
            }
        }

        #[test]
        fn more_capacity_never_means_less_load(capacities in prop::collection::vec(0.0f64..=1.0, 1..6), at in 0usize..6, more in 0.0f64..1.0) {
            let at = at % capacities.len();
            let mut greater = capacities.clone();
            greater[at] = (greater[at] + more).min(1.0);
            prop_assert!(split(&greater)[at] >= split(&capacities)[at] - 1e-9);
        }
    }
}
