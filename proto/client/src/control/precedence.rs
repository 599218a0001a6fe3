//! Whose word counts when gateways differ in what they say of the cluster as a whole: trust bundles, exports. Pure.
//!
//! Each word names the revision of the registry that it was made from, and the newest counts, whoever says it: a gateway that was
//! started again and has not caught up yet brings no removed link back and cuts no new one, also if it is the only one left. What
//! *services* are is merged from all words and not by order.

use causeway_model::Revision;

/// The newest word on one thing, known by its fingerprint.
#[derive(Debug, Default)]
pub(super) struct Precedence {
    newest: Option<(Revision, u64)>,
}

impl Precedence {
    /// Whether a word of `revision` counts and is news.
    pub(super) fn take(&mut self, revision: Revision, print: u64) -> bool {
        match self.newest {
            Some((newest, _)) if revision < newest => false,
            Some((_, known)) => {
                self.newest = Some((revision, print));
                known != print
            }
            None => {
                self.newest = Some((revision, print));
                true
            }
        }
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
}
