//! The kinds of faults, and which comes next.

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::fmt;
use std::time::Duration;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SIGKILL for the gateway that leads the registry, and a start a little later.
    KillLeader,
    /// The same for another gateway.
    KillOther,
    /// SIGSTOP for the gateway that leads, then SIGCONT.
    StopLeader,
    /// The same for another gateway.
    StopOther,
    /// Two of three gateways are killed.
    KillMajority,
    /// No packet passes between the clusters.
    CutLink,
    /// Packets of one cluster do not reach the other.
    OneWay,
    /// Gateways of a cluster are cut off: nothing passes that is dialled to them.
    Part,
    /// The same in one direction only.
    PartOneWay,
    /// A gateway's disk is full.
    FullDisk,
    /// The end of a stopped gateway's registry is gone.
    Truncated,
    /// Bits of a stopped gateway's registry are others.
    Flipped,
    /// SIGKILL for the sidecar of the service that is asked, and a start a little later.
    KillSidecar,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::KillLeader,
        Self::KillOther,
        Self::StopLeader,
        Self::StopOther,
        Self::KillMajority,
        Self::CutLink,
        Self::OneWay,
        Self::Part,
        Self::PartOneWay,
        Self::FullDisk,
        Self::Truncated,
        Self::Flipped,
        Self::KillSidecar,
    ];

    /// How long it lasts: from, and to, in milliseconds.
    fn lasts(self) -> (u64, u64) {
        match self {
            Self::StopLeader | Self::StopOther => (500, 10_000),
            Self::CutLink | Self::OneWay => (2_000, 12_000),
            Self::KillMajority => (3_000, 6_000),
            Self::Part | Self::PartOneWay => (1_000, 10_000),
            _ => (0, 5_000),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::KillLeader => "kill-leader",
            Self::KillOther => "kill-other",
            Self::StopLeader => "stop-leader",
            Self::StopOther => "stop-other",
            Self::KillMajority => "kill-majority",
            Self::CutLink => "cut-link",
            Self::OneWay => "one-way-loss",
            Self::Part => "part-gateways",
            Self::PartOneWay => "part-one-way",
            Self::FullDisk => "full-disk",
            Self::Truncated => "truncated-registry",
            Self::Flipped => "flipped-registry",
            Self::KillSidecar => "kill-sidecar",
        })
    }
}

/// A fault that is to be injected.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// What.
    pub kind: Kind,
    /// In which of the two clusters.
    pub cluster: usize,
    /// How long it lasts.
    pub hold: Duration,
    /// How long nothing happens after it.
    pub pause: Duration,
}

/// An endless sequence of faults that follows from a seed: each kind once in random order, then again in another.
#[derive(Debug)]
pub struct Plan {
    random: StdRng,
    kinds: Vec<Kind>,
    round: Vec<Kind>,
}

impl Plan {
    /// Of these kinds.
    pub fn new(seed: u64, kinds: &[Kind]) -> Self {
        Self { random: StdRng::seed_from_u64(seed), kinds: kinds.to_vec(), round: Vec::new() }
    }

    /// The randomness that the plan itself draws from.
    pub fn random(&mut self) -> &mut StdRng {
        &mut self.random
    }
}

impl Iterator for Plan {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        if self.round.is_empty() {
            self.round.clone_from(&self.kinds);
        }
        let place = self.random.random_range(0..self.round.len());
        let kind = self.round.swap_remove(place);
        let (from, to) = kind.lasts();
        Some(Planned {
            kind,
            cluster: self.random.random_range(0..2),
            hold: Duration::from_millis(self.random.random_range(from..=to)),
            pause: Duration::from_millis(self.random.random_range(500..=3_000)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence_in_which_every_kind_comes() {
        let kinds = |seed| {
            Plan::new(seed, &Kind::ALL)
                .take(Kind::ALL.len() * 2)
                .map(|planned| planned.kind)
                .collect::<Vec<_>>()
        };
        assert_eq!(kinds(7), kinds(7));
        assert_ne!(kinds(7), kinds(8));
        for round in kinds(7).chunks(Kind::ALL.len()) {
            assert!(Kind::ALL.iter().all(|kind| round.contains(kind)), "{round:?}");
        }
    }
}
