//! The shares of tiers over time: away at once, back gradually.

use crate::split::fill_up;
use crate::{Settings, Tier};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A tier that was gone for no longer gets back what it had at once: nobody has got used to its absence.
const BRIEF: Duration = Duration::from_millis(1500);
/// However long nobody chose, a step back is as after this time at most: a return is made of several connections.
const LONGEST_STEP: Duration = Duration::from_secs(1);
/// In which time a saturated tier would lose all its share.
const RELIEF: f64 = 1.0;
/// A tier that was saturated takes more again when it is below this part of the threshold.
const RELIEVED: f64 = 0.9;

/// What one tier can take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TierLoad {
    /// The tier.
    pub tier: Tier,
    /// The weight of all its endpoints.
    pub total: f64,
    /// The weight of those that take connections.
    pub available: f64,
    /// How many connections each of those has on average.
    pub in_flight: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    share: f64,
    /// What it had when it could take nothing any more, and when that was.
    gone: Option<(f64, Instant)>,
}

/// The shares of the tiers of one service.
///
/// What a tier cannot take any more goes to the next one at once. A nearer tier that takes load again grows by a constant pace, so that
/// many clients together do not run it over. A tier that nobody could stand in for gets everything.
#[derive(Clone, Debug)]
pub struct Spread {
    healthy: f64,
    saturated: Option<f64>,
    /// How much a share may grow in a second.
    pace: f64,
    entries: BTreeMap<Tier, Entry>,
    last: Option<Instant>,
}

/// One step's view of a tier.
struct Part {
    tier: Tier,
    entry: Entry,
    offered: bool,
    /// What it can take by its health.
    capacity: f64,
    /// What it should take at most.
    wanted: f64,
    share: f64,
}

impl Spread {
    /// Nothing has been shared yet. `pace` is this client's own, around 1: the pace of a return differs with it.
    pub fn new(settings: &Settings, pace: f64) -> Self {
        Self {
            healthy: f64::from(settings.healthy_share.clamp(1, 100)) / 100.0,
            saturated: settings.spill_in_flight.map(f64::from),
            pace: pace / settings.return_time.as_secs_f64().max(0.001),
            entries: BTreeMap::new(),
            last: None,
        }
    }

    /// The shares of `tiers` at `now`, in their order, which is nearest first. They add up to 1, unless none can take anything: then
    /// all are 0.
    pub fn step(&mut self, tiers: &[TierLoad], now: Instant) -> Vec<f64> {
        let first = self.last.is_none();
        let since = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.last = Some(now);
        let up = if first { 1.0 } else { since.min(LONGEST_STEP).as_secs_f64() * self.pace };
        let mut parts = self.parts(tiers, since);
        self.near_to_far(&mut parts, up, now);
        fill(&mut parts);
        self.entries.clear();
        for part in &parts {
            let had = part.entry.share;
            let gone = match part.entry.gone {
                _ if part.capacity > 0.0 => None,
                None if had > 0.0 => Some((had, now)),
                gone => gone.filter(|(_, at)| now.saturating_duration_since(*at) <= BRIEF),
            };
            if part.offered || gone.is_some() {
                self.entries.insert(part.tier, Entry { share: part.share, gone });
            }
        }
        let share = |load: &TierLoad| self.entries.get(&load.tier).map_or(0.0, |entry| entry.share);
        tiers.iter().map(share).collect()
    }

    /// All tiers that are offered or were at the last step, nearest first. One that is not offered can take nothing.
    fn parts(&self, tiers: &[TierLoad], since: Duration) -> Vec<Part> {
        let none = |(tier, entry): (&Tier, &Entry)| {
            (
                *tier,
                Part { tier: *tier, entry: *entry, offered: false, capacity: 0.0, wanted: 0.0, share: 0.0 },
            )
        };
        let mut parts: BTreeMap<Tier, Part> = self.entries.iter().map(none).collect();
        for load in tiers {
            let entry = self.entries.get(&load.tier).copied().unwrap_or_default();
            let capacity = self.capacity(load);
            let wanted = capacity.min(self.unsaturated(load, entry.share, since));
            parts.insert(
                load.tier,
                Part { tier: load.tier, entry, offered: true, capacity, wanted, share: 0.0 },
            );
        }
        parts.into_values().collect()
    }

    fn capacity(&self, load: &TierLoad) -> f64 {
        if load.available <= 0.0 {
            return 0.0;
        }
        (load.available / load.total.max(load.available) / self.healthy).min(1.0)
    }

    /// What a tier should take at most for the connections that it has.
    fn unsaturated(&self, load: &TierLoad, share: f64, since: Duration) -> f64 {
        match self.saturated {
            Some(most) if load.in_flight > most => (share - since.as_secs_f64() / RELIEF).max(0.0),
            Some(most) if load.in_flight > most * RELIEVED => share,
            _ => 1.0,
        }
    }

    /// Gives each what it wants of what is left, as far as it may grow: by `up`, and by what nearer ones gave up.
    fn near_to_far(&self, parts: &mut [Part], up: f64, now: Instant) {
        // what is not offered any more may be offered as another tier now
        let lost = parts.iter().filter(|part| !part.offered).map(|part| part.entry.share);
        let (mut left, mut given_up) = (1.0, lost.sum::<f64>());
        for part in parts {
            let back = match part.entry.gone {
                Some((before, at)) if now.saturating_duration_since(at) <= BRIEF => before,
                _ => 0.0,
            };
            let had = part.entry.share.max(back);
            let may = had + up + given_up;
            part.share = f64::min(part.wanted, left).min(may);
            left = f64::max(left - part.share, 0.0);
            if part.offered {
                given_up = f64::max(given_up + had - part.share, 0.0);
            }
        }
    }
}

/// Gives what is left to whoever can take it: there is nobody else.
fn fill(parts: &mut [Part]) {
    let mut left = 1.0 - parts.iter().map(|part| part.share).sum::<f64>();
    for part in parts.iter_mut() {
        let more = (part.capacity - part.share).min(left).max(0.0);
        part.share += more;
        left -= more;
    }
    let mut shares: Vec<f64> = parts.iter().map(|part| part.share).collect();
    if shares.iter().sum::<f64>() > 0.0 {
        fill_up(&mut shares);
        parts.iter_mut().zip(shares).for_each(|(part, share)| part.share = share);
    }
}
