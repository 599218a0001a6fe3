//! Whose word counts when gateways differ in what they say of the cluster as a whole: trust bundles, exports. Pure.
//!
//! Each word names the revision of the registry that it was made from, and the newest counts, whoever says it: a gateway that was
//! started again and has not caught up yet brings no removed link back and cuts no new one, also if it is the only one left. What
//! *services* are is merged from all words and not by order.

use causeway_model::Revision;

/// The newest word on one thing, known by its fingerprint.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Precedence {
    newest: Revision,
    /// None before the first word.
    print: Option<u64>,
}

impl Precedence {
    /// The next word counts whatever it says, unless it is older than `revision`.
    pub(super) fn since(revision: Revision) -> Self {
        Self { newest: revision, print: None }
    }

    /// The revision of the newest word; 0 before the first.
    pub(super) fn revision(&self) -> Revision {
        self.newest
    }

    /// Whether a word of `revision` counts and is news.
    pub(super) fn take(&mut self, revision: Revision, print: u64) -> bool {
        if revision < self.newest {
            return false;
        }
        self.newest = revision;
        self.print.replace(print) != Some(print)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_older_counts_and_what_is_so_again_does() {
        let mut words = Precedence::default();
        let rows = [
            (5, 1, true, "the first"),
            (7, 2, true, "a link was made"),
            (5, 1, false, "by a gateway that lags"),
            (6, 1, false, "which catches up"),
            (7, 2, false, "and says the same"),
            (9, 1, true, "the link was removed: what was so earlier is so again"),
            (7, 2, false, "by one that is cut off from the registry"),
            (9, 1, false, "again"),
            (9, 3, true, "of the same revision, for another registration"),
        ];
        for (revision, print, counts, why) in rows {
            assert_eq!(words.take(Revision(revision), print), counts, "{why}");
        }
    }

    #[test]
    fn what_was_saved_is_not_taken_back() {
        let mut words = Precedence::since(Revision(7));
        assert!(!words.take(Revision(6), 1));
        assert_eq!(words.revision(), Revision(7));
        assert!(words.take(Revision(7), 1), "what was saved is not known by its fingerprint");
        assert!(!words.take(Revision(8), 1));
        assert_eq!(words.revision(), Revision(8));
    }
}
