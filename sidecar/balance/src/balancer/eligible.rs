//! Which candidates may be chosen at all, and from which tier.

use super::Candidate;
use crate::Tier;
use std::collections::BTreeMap;
use std::time::Instant;

/// Whether an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grade {
    /// No.
    In,
    /// It was, until then; one connection may try it.
    Due(Instant),
    /// Until then, or as long as one tries it.
    Out(Option<Instant>),
}

/// What became of each candidate.
#[derive(Debug)]
pub(super) struct Eligible {
    /// Whether each takes connections.
    takes: Vec<bool>,
    /// Since when each is due for a trial.
    due: Vec<Option<Instant>>,
    /// The candidates of each tier, nearest first.
    tiers: BTreeMap<Tier, Vec<usize>>,
}

impl Eligible {
    /// Judges `candidates` by what `grade` says of each. No more than `most` percent of a tier's healthy ones stay ejected: of
    /// the others, those whose time is over first take part.
    pub(super) fn of<K: Copy>(candidates: &[Candidate<K>], grade: impl Fn(K) -> Grade, most: u8) -> Self {
        let mut tiers: BTreeMap<Tier, Vec<usize>> = BTreeMap::new();
        for (at, candidate) in candidates.iter().enumerate() {
            tiers.entry(candidate.tier).or_default().push(at);
        }
        let grades: Vec<Grade> = candidates.iter().map(|candidate| grade(candidate.key)).collect();
        let open =
            |at: usize| candidates.get(at).is_some_and(|candidate| candidate.healthy && candidate.reachable);
        let mut takes: Vec<bool> =
            (0..candidates.len()).map(|at| open(at) && grades[at] == Grade::In).collect();
        for members in tiers.values() {
            let mut out: Vec<(Option<Instant>, usize)> = Vec::new();
            let mut count = 0;
            for at in members.iter().copied().filter(|at| open(*at)) {
                count += 1;
                match grades[at] {
                    Grade::In => {}
                    Grade::Due(until) => out.push((Some(until), at)),
                    Grade::Out(until) => out.push((until, at)),
                }
            }
            let others = takes.iter().enumerate().any(|(at, takes)| *takes && !members.contains(&at));
            // those that are being tried come last: one connection is enough
            out.sort_by_key(|(until, _)| (until.is_none(), *until));
            let back = out.len().saturating_sub(most_out(count, most, others));
            out.iter().take(back).for_each(|(_, at)| takes[*at] = true);
        }
        let due = grades.iter().zip(candidates).map(|(grade, candidate)| match grade {
            Grade::Due(until) if candidate.healthy && candidate.reachable && candidate.connected => {
                Some(*until)
            }
            _ => None,
        });
        let due = due.collect();
        Self { takes, due, tiers }
    }

    /// The tiers, nearest first.
    pub(super) fn tiers(&self) -> impl Iterator<Item = Tier> {
        self.tiers.keys().copied()
    }

    /// Whether the candidate at `at` takes connections.
    pub(super) fn takes(&self, at: usize) -> bool {
        self.takes.get(at).copied().unwrap_or(false)
    }

    /// From which candidates one is chosen, when the tiers have `shares`; and whether that is a trial. `None` if all were tried or
    /// take no connections.
    pub(super) fn open<K: Copy>(
        &self,
        candidates: &[Candidate<K>],
        shares: &[(Tier, f64)],
        random: f64,
    ) -> Option<(Vec<usize>, bool)> {
        let untried = |at: &usize| candidates.get(*at).is_some_and(|candidate| !candidate.tried);
        if let Some(at) = self.trial(shares).filter(untried) {
            return Some((vec![at], true));
        }
        let drawn = drawn(shares, random);
        let order: Vec<Tier> = drawn.into_iter().chain(self.tiers()).collect();
        let in_tier = |tier: Tier, may: &dyn Fn(usize) -> bool| {
            let members = self.tiers.get(&tier)?.iter().copied();
            let open: Vec<usize> = members.filter(|at| untried(at) && may(*at)).collect();
            let up: Vec<usize> = open.iter().copied().filter(|at| candidates[*at].connected).collect();
            Some(if up.is_empty() { open } else { up }).filter(|open| !open.is_empty())
        };
        let well = |at: usize| self.takes(at);
        let ejected = |at: usize| candidates[at].healthy && candidates[at].reachable;
        let silent = |at: usize| candidates[at].healthy;
        let find = |may: &dyn Fn(usize) -> bool| order.iter().find_map(|tier| in_tier(*tier, may));
        let open = find(&well).or_else(|| find(&ejected)).or_else(|| find(&silent))?;
        Some((open, false))
    }

    /// Who is tried next: of the nearest tier that is not farther than those that have a share, who waits longest.
    fn trial(&self, shares: &[(Tier, f64)]) -> Option<usize> {
        let farthest = shares.iter().filter(|(_, share)| *share > 0.0).map(|(tier, _)| *tier).max()?;
        let waits = |members: &Vec<usize>| {
            let due = members.iter().filter_map(|at| Some(((*self.due.get(*at)?)?, *at)));
            due.min().map(|(_, at)| at)
        };
        self.tiers.range(..=farthest).find_map(|(_, members)| waits(members))
    }
}

/// How many of `count` may stay ejected when `most` percent may. `others` is whether anybody else takes connections.
fn most_out(count: usize, most: u8, others: bool) -> usize {
    if most == 0 {
        return 0;
    }
    let may = (count * usize::from(most.min(100)) / 100).max(1);
    if others { may } else { may.min(count.saturating_sub(1)) }
}

/// The tier that `random` falls on.
fn drawn(shares: &[(Tier, f64)], random: f64) -> Option<Tier> {
    let mut left = random;
    for (tier, share) in shares {
        left -= share;
        if left < 0.0 {
            return Some(*tier);
        }
    }
    None
}
