//! Whose word counts when gateways differ in what they say of the cluster as a whole: trust bundles, exports. Pure.
//!
//! These messages carry no revision, so their order is learned: what was so earlier and is said again by a gateway that has not
//! said anything newer is old. A gateway that was started again and has not caught up yet must not bring it back while another
//! says what is so now: that would end connections that live. What *services* are is merged from all words and not by order.

use causeway_model::NodeId;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// How many earlier words are known as such.
const MAX_PAST: usize = 16;
/// How long old words are put off once no gateway says any more what is so now: it may be so again.
const GRACE: Duration = Duration::from_secs(10);

/// What one session's gateway said last.
#[derive(Debug)]
struct Said<T> {
    print: u64,
    /// Where it is in the order of words.
    place: u64,
    /// The word, if it was put off.
    held: Option<T>,
}

/// The words on one thing, told apart by fingerprints.
#[derive(Debug)]
pub(super) struct Precedence<T> {
    /// The word that counts, and its place.
    current: Option<(u64, u64)>,
    /// Earlier ones, oldest first.
    past: VecDeque<(u64, u64)>,
    said: BTreeMap<NodeId, Said<T>>,
    /// Since when no gateway says what counts, and one says something else.
    deserted_since: Option<Instant>,
}

impl<T> Default for Precedence<T> {
    fn default() -> Self {
        Self { current: None, past: VecDeque::new(), said: BTreeMap::new(), deserted_since: None }
    }
}

impl<T> Precedence<T> {
    /// Takes what the gateway of a session says; returns it if it counts and is news.
    pub(super) fn take(&mut self, by: NodeId, print: u64, word: T, now: Instant) -> Option<T> {
        let before = self.said.get(&by).map(|said| said.place);
        let taken = match self.current {
            Some((current, place)) if current == print => {
                self.said.insert(by, Said { print, place, held: None });
                None
            }
            Some((_, place)) if before != Some(place) && self.is_said_by_another(by) => {
                match self.place_after(before, print) {
                    Some(place) => {
                        self.said.insert(by, Said { print, place, held: Some(word) });
                        None
                    }
                    None => Some(word),
                }
            }
            _ => Some(word),
        };
        if taken.is_some() {
            self.advance(by, print);
        }
        self.look(now);
        taken
    }

    /// The session with `by` has ended.
    pub(super) fn leave(&mut self, by: NodeId, now: Instant) {
        self.said.remove(&by);
        self.look(now);
    }

    /// The newest of the words that were put off, once it is time to believe them.
    pub(super) fn expire(&mut self, now: Instant) -> Option<T> {
        let since = self.deserted_since?;
        if now.saturating_duration_since(since) < GRACE {
            return None;
        }
        let held = self.said.iter_mut().filter(|(_, said)| said.held.is_some());
        let (&by, said) = held.max_by_key(|(_, said)| said.place)?;
        let (print, word) = (said.print, said.held.take());
        self.advance(by, print);
        self.look(now);
        word
    }

    /// `by` says what counts from now on.
    fn advance(&mut self, by: NodeId, print: u64) {
        let place = self.current.map_or(0, |(_, place)| place + 1);
        if let Some(old) = self.current.replace((print, place)) {
            if self.past.len() >= MAX_PAST {
                self.past.pop_front();
            }
            self.past.push_back(old);
        }
        self.said.insert(by, Said { print, place, held: None });
    }

    fn is_said_by_another(&self, by: NodeId) -> bool {
        let current = self.current.map(|(print, _)| print);
        self.said.iter().any(|(node, said)| *node != by && Some(said.print) == current)
    }

    /// Where an earlier word is in the order, after what the same gateway said before.
    fn place_after(&self, before: Option<u64>, print: u64) -> Option<u64> {
        let later = |place: u64| before.is_none_or(|before| place > before);
        self.past.iter().rev().find(|(past, place)| *past == print && later(*place)).map(|(_, place)| *place)
    }

    fn look(&mut self, now: Instant) {
        let current = self.current.map(|(print, _)| print);
        let backed = self.said.values().any(|said| Some(said.print) == current);
        let held = self.said.values().any(|said| said.held.is_some());
        self.deserted_since = (!backed && held).then(|| self.deserted_since.unwrap_or(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    /// Takes `print` as a word of its own.
    fn take(all: &mut Precedence<u64>, by: NodeId, print: u64, now: Instant) -> Option<u64> {
        all.take(by, print, print, now)
    }

    #[test]
    fn a_gateway_that_lags_brings_nothing_old_back() {
        let (mut all, now) = (Precedence::default(), Instant::now());
        for print in [1, 2, 3] {
            assert_eq!(take(&mut all, A, print, now), Some(print));
        }
        // started again, it says what it said long ago, and catches up
        for print in [1, 2, 3] {
            assert_eq!(take(&mut all, B, print, now), None);
        }
        assert_eq!(take(&mut all, B, 4, now), Some(4));
        assert_eq!(take(&mut all, A, 4, now), None);
        assert_eq!(all.expire(now + GRACE), None);
    }

    #[test]
    fn what_is_so_again_counts_when_a_gateway_that_was_up_to_date_says_it() {
        let (mut all, now) = (Precedence::default(), Instant::now());
        take(&mut all, A, 1, now);
        assert_eq!(take(&mut all, B, 1, now), None);
        assert_eq!(take(&mut all, A, 2, now), Some(2));
        assert_eq!(take(&mut all, A, 1, now), Some(1));
        // the other goes the same way, later
        assert_eq!(take(&mut all, B, 2, now), None);
        assert_eq!(take(&mut all, B, 1, now), None);
        assert_eq!(take(&mut all, B, 2, now), Some(2));
    }

    #[test]
    fn the_only_gateway_is_believed_at_once() {
        let (mut all, now) = (Precedence::default(), Instant::now());
        take(&mut all, A, 1, now);
        take(&mut all, A, 2, now);
        all.leave(A, now);
        assert_eq!(take(&mut all, A, 1, now), Some(1));
        assert_eq!(take(&mut all, B, 2, now), None, "the order is known");
    }

    #[test]
    fn an_old_word_counts_again_when_nobody_says_anything_else_for_a_while() {
        let (mut all, now) = (Precedence::default(), Instant::now());
        take(&mut all, A, 1, now);
        take(&mut all, A, 2, now);
        assert_eq!(take(&mut all, B, 1, now), None);
        assert_eq!(all.expire(now + GRACE), None, "another still says what is so now");
        all.leave(A, now + GRACE);
        assert_eq!(all.expire(now + GRACE + GRACE / 2), None);
        assert_eq!(all.expire(now + 2 * GRACE), Some(1));
        assert_eq!(all.expire(now + 3 * GRACE), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut all, now) = (Precedence::default(), Instant::now());
        for print in 0..100 {
            take(&mut all, A, print, now);
        }
        assert_eq!((all.past.len(), all.said.len()), (MAX_PAST, 1));
    }
}
