//! Clusters that are silent: nothing is heard of them although something should be.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// If a cluster is heard of so soon, it was never away, and whoever did not answer in time is to blame.
const FALSE_ALARM: Duration = Duration::from_secs(1);
/// The most endpoints that are remembered as silent, for each cluster.
const MAX_BLAMED: usize = 64;

#[derive(Clone, Debug)]
struct Suspicion<K> {
    since: Instant,
    /// Who did not answer, and since when.
    unanswered: Vec<(K, Instant)>,
}

/// Which clusters `C` are silent, and which of their endpoints `K` showed it.
///
/// An endpoint that does not answer may be dead, or behind a path that is. Its cluster is suspected until anything is heard of
/// it; only then is it known whose fault it was.
#[derive(Clone, Debug)]
pub struct Suspects<C, K> {
    silent: BTreeMap<C, Suspicion<K>>,
}

impl<C, K> Default for Suspects<C, K> {
    fn default() -> Self {
        Self { silent: BTreeMap::new() }
    }
}

impl<C: Copy + Ord, K: Copy + Eq> Suspects<C, K> {
    /// Whether `cluster` is suspected.
    pub fn contains(&self, cluster: C) -> bool {
        self.silent.contains_key(&cluster)
    }

    /// How many clusters are.
    pub fn len(&self) -> usize {
        self.silent.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.silent.is_empty()
    }

    /// Suspects `cluster`. `unanswered` is the endpoint that a connection could not be made to, and since when; what a connection
    /// that stands carries says nothing of an endpoint. Returns whether it was not suspected before.
    pub fn suspect(&mut self, cluster: C, unanswered: Option<(K, Instant)>, now: Instant) -> bool {
        let new = !self.contains(cluster);
        let suspicion =
            self.silent.entry(cluster).or_insert_with(|| Suspicion { since: now, unanswered: Vec::new() });
        let known = |key| suspicion.unanswered.iter().any(|(other, _)| *other == key);
        if let Some((key, since)) = unanswered.filter(|(key, _)| !known(*key))
            && suspicion.unanswered.len() < MAX_BLAMED
        {
            suspicion.unanswered.push((key, since));
        }
        new
    }

    /// Something was heard of `cluster`, of its endpoint `answered` if that is known. Returns who is to blame for the suspicion, and
    /// since when, if there was one; nobody is if the cluster was really silent.
    pub fn heard(&mut self, cluster: C, answered: Option<K>, now: Instant) -> Option<Vec<(K, Instant)>> {
        let mut suspicion = self.silent.remove(&cluster)?;
        if now.saturating_duration_since(suspicion.since) > FALSE_ALARM {
            return Some(Vec::new());
        }
        suspicion.unanswered.retain(|(key, _)| Some(*key) != answered);
        Some(suspicion.unanswered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_alone_is_to_blame() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        assert!(suspects.suspect('a', Some((1, now)), now) && suspects.contains('a'));
        assert!(!suspects.suspect('a', Some((2, now)), now));
        assert!(!suspects.suspect('a', Some((1, now)), now));
        assert!(suspects.suspect('b', None, now));
        assert_eq!(suspects.len(), 2);
        let soon = now + Duration::from_millis(100);
        assert_eq!(suspects.heard('a', Some(2), soon), Some(vec![(1, now)]));
        assert_eq!(suspects.heard('a', Some(2), soon), None);
        assert!(!suspects.contains('a') && suspects.contains('b'));
    }

    #[test]
    fn nobody_is_to_blame_for_a_cluster_that_was_away() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        suspects.suspect('a', Some((1, now)), now);
        assert_eq!(suspects.heard('a', Some(2), now + Duration::from_secs(10)), Some(Vec::new()));
        assert!(suspects.is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        for key in 0..1000 {
            suspects.suspect('a', Some((key, now)), now);
        }
        assert_eq!(suspects.heard('a', None, now).map(|blamed| blamed.len()), Some(MAX_BLAMED));
    }
}
