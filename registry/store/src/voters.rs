//! Who votes. Pure: from who votes now and how the gateways are doing follows who should.
//!
//! # The rules
//! - Only gateways that keep signing keys vote; a forwarder never does.
//! - One voter, three or five, never an even number: a fourth makes nothing safer than three do, and one more disk has to
//!   answer. A group of one grows to three at once, as soon as two others have caught up; a group of two could lose
//!   neither.
//! - A voter that lives keeps its vote. A better zone is no reason to take it away.
//! - One that drains, is dead for [`DEAD_AFTER`] or is no gateway any more is replaced by one that lives and has caught
//!   up, as far as there are such.
//! - Where there is a choice, newcomers are taken from the zones with the fewest voters.
//! - One step never takes away the votes of a majority of the voters that live, so that whatever was acknowledged is on a
//!   voter that stays. The exception is a lone voter that drains: its only successor takes over.
//!
//! # Why three do not become one by themselves
//! With two of three dead nothing can be changed: a majority has to agree to every change, that of the voters too. With
//! one of three dead, two still agree, and could make one of them the only voter. That would survive the loss of the
//! other, but it gives up the dead one's copy for good and leaves everything on one disk, while the dead one is most
//! often back in a minute. So a group of three stays one of three while nobody can take the place of the missing one.
//! It shrinks only when the operator removes a voter ([`without`]), and then to its leader, whose log is the one that is
//! known to be complete. A group of five shrinks to three by itself: three that live lose nothing by that.

#[cfg(test)]
mod tests;

use causeway_model::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a voter must have been dead before it is replaced: a restart takes less.
pub const DEAD_AFTER: Duration = Duration::from_secs(30);
/// By how many log entries a member may be behind and still count as having caught up: a busy leader is always a few
/// ahead.
pub const CAUGHT_UP: u64 = 256;
/// The most voters that are of use.
const MOST: usize = 5;

/// A gateway, as far as its vote is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The gateway.
    pub(crate) node: NodeId,
    /// It has the role `gateway`; any other never votes.
    pub(crate) signs: bool,
    /// It answers.
    pub(crate) alive: bool,
    /// It is being taken out of use.
    pub(crate) draining: bool,
    /// How many log entries its replica is behind the leader's; `None` when it is not known.
    pub(crate) behind: Option<u64>,
    /// Where it runs: voters are spread over zones.
    pub(crate) zone: String,
    /// For how long it has not answered.
    pub(crate) dead_for: Option<Duration>,
}

impl Candidate {
    /// May go on voting.
    fn stays(&self) -> bool {
        let dead = !self.alive && self.dead_for.is_some_and(|time| time >= DEAD_AFTER);
        self.signs && !self.draining && !dead
    }

    /// May be given a vote.
    fn ready(&self) -> bool {
        self.alive && self.stays() && self.behind.is_some_and(|behind| behind <= CAUGHT_UP)
    }
}

/// Who should vote instead of `current`; `None` when it should stay as it is.
///
/// A voter that is not among `candidates` is no gateway any more. Where more voters leave than one step may take, the next
/// call with the result goes on.
pub(crate) fn choose_voters(
    current: &BTreeSet<NodeId>,
    candidates: &[Candidate],
) -> Option<BTreeSet<NodeId>> {
    let pool = Pool::new(current, candidates);
    let size = pool.size(current.len());
    let chosen = pool.fill(size);
    (!chosen.is_empty() && chosen != *current).then_some(chosen)
}

/// Who votes once `gone` is removed from `current` at the operator's wish: somebody else in its place if there is one, else
/// as many as make an odd number, `leader` among them.
///
/// `None` when nobody could vote.
pub(crate) fn without(
    current: &BTreeSet<NodeId>,
    gone: NodeId,
    leader: NodeId,
    candidates: &[Candidate],
) -> Option<BTreeSet<NodeId>> {
    let mut rest = current.clone();
    rest.remove(&gone);
    let others: Vec<Candidate> =
        candidates.iter().filter(|candidate| candidate.node != gone).cloned().collect();
    let pool = Pool::new(&rest, &others);
    let mut chosen = rest.iter().copied().filter(|&node| node == leader).collect::<BTreeSet<_>>();
    // those that vote already come first, so there is one too many only if nobody new was found
    let voting = current.len().min(MOST);
    let size = if voting.is_multiple_of(2) { voting - 1 } else { voting };
    pool.pick(&mut chosen, size);
    if chosen.len().is_multiple_of(2) {
        let last = pool
            .order
            .iter()
            .rev()
            .find(|candidate| candidate.node != leader && chosen.contains(&candidate.node));
        let last = last.map(|candidate| candidate.node);
        let last = last.or_else(|| chosen.iter().copied().rfind(|&node| node != leader))?;
        chosen.remove(&last);
    }
    (!chosen.is_empty()).then_some(chosen)
}

/// Everybody who can vote, the best first.
struct Pool<'a> {
    /// Voters that stay, then whoever is ready, then voters that live and should go, then the others.
    order: Vec<&'a Candidate>,
    /// Voters that are no gateways any more.
    unknown: Vec<NodeId>,
    stay: usize,
    ready: usize,
    /// The voters that live, those first that stay.
    living: Vec<NodeId>,
}

impl<'a> Pool<'a> {
    fn new(current: &BTreeSet<NodeId>, candidates: &'a [Candidate]) -> Self {
        let known: BTreeMap<NodeId, &Candidate> =
            candidates.iter().map(|candidate| (candidate.node, candidate)).collect();
        let rank = |candidate: &Candidate| match (current.contains(&candidate.node), candidate.stays()) {
            (true, true) => Some(u8::from(!candidate.alive)),
            (true, false) => Some(if candidate.alive { 3 } else { 4 }),
            (false, _) => candidate.ready().then_some(2),
        };
        let mut ranked: Vec<(u8, &Candidate)> =
            known.values().filter_map(|&candidate| Some((rank(candidate)?, candidate))).collect();
        ranked.sort_by_key(|(rank, candidate)| (*rank, candidate.node));
        let count = |ranks: &[u8]| ranked.iter().filter(|(rank, _)| ranks.contains(rank)).count();
        let (stay, ready) = (count(&[0, 1]), count(&[2]));
        let living = ranked.iter().filter(|(rank, _)| matches!(rank, 0 | 3));
        let living = living.map(|(_, candidate)| candidate.node).collect();
        let order = ranked.into_iter().map(|(_, candidate)| candidate).collect();
        let unknown = current.iter().copied().filter(|node| !known.contains_key(node)).collect();
        Self { order, unknown, stay, ready, living }
    }

    /// How many should vote, of a group that has `now`.
    fn size(&self, now: usize) -> usize {
        let wanted = match self.stay + self.ready {
            0 => 0,
            1 | 2 => 1,
            3 | 4 => 3,
            _ => MOST,
        };
        if now == 0 || wanted >= now {
            return wanted;
        }
        // an even group comes of a change that was cut short
        if now.is_multiple_of(2) {
            return wanted.max(now - 1).min(MOST);
        }
        let keeps = wanted < 3 || wanted < self.stay;
        if now <= MOST && keeps { now } else { wanted.max(3) }
    }

    /// The `size` best, with enough of the voters that live.
    fn fill(&self, size: usize) -> BTreeSet<NodeId> {
        let living = self.living.len();
        // a lone voter may hand over to its only successor
        let may_go = if living == 1 && self.stay == 0 && self.ready > 0 { 1 } else { living / 2 };
        let mut chosen = self.living[..living - may_go].iter().copied().collect::<BTreeSet<_>>();
        let size = if chosen.len() > size { chosen.len() | 1 } else { size };
        self.pick(&mut chosen, size);
        chosen
    }

    /// Adds to `chosen` until it has `size`.
    fn pick(&self, chosen: &mut BTreeSet<NodeId>, size: usize) {
        let zone = |chosen: &BTreeSet<NodeId>, zone: &str| {
            self.order.iter().filter(|one| one.zone == zone && chosen.contains(&one.node)).count()
        };
        let (stay, ready) = self.order.split_at(self.stay);
        let (ready, leave) = ready.split_at(self.ready);
        for class in [stay, ready] {
            while chosen.len() < size {
                let free = class.iter().filter(|one| !chosen.contains(&one.node));
                // the first of equals, which is one that lives
                let Some(best) = free.min_by_key(|one| (!one.alive, zone(chosen, &one.zone), one.node))
                else {
                    break;
                };
                chosen.insert(best.node);
            }
        }
        let leave = leave.iter().map(|one| one.node).chain(self.unknown.iter().copied());
        for node in leave {
            if chosen.len() < size {
                chosen.insert(node);
            }
        }
    }
}
