//! What the calls to and from other members tell of them: who answered when, with which database, and which commands each
//! knows.
//!
//! When somebody answered counts for one term only: between two leaderships a node calls nobody, and the silence of that time
//! says nothing about the others.

use crate::member::DiskId;
use causeway_model::NodeId;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How many other nodes are remembered: far more than a cluster has gateways.
const MOST: usize = 4096;
/// How many command numbers of one node are remembered.
const MOST_COMMANDS: usize = 1024;

/// What is known of one other node.
#[derive(Clone, Debug, Default)]
struct Contact {
    /// The term of the calls that the times are of.
    term: u64,
    asked: Option<Instant>,
    answered: Option<Instant>,
    disk: Option<DiskId>,
    commands: Option<Vec<u16>>,
}

/// What is known of the other nodes.
#[derive(Debug, Default)]
pub(crate) struct Contacts {
    nodes: Mutex<BTreeMap<NodeId, Contact>>,
}

impl Contacts {
    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Contact>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, node: NodeId, note: impl FnOnce(&mut Contact)) {
        let mut nodes = self.nodes();
        if nodes.len() < MOST || nodes.contains_key(&node) {
            note(nodes.entry(node).or_default());
        }
    }

    /// A Raft call of `term` to `node` is made.
    pub(crate) fn asked(&self, node: NodeId, term: u64) {
        self.note(node, |contact| {
            if contact.term < term {
                (contact.term, contact.asked, contact.answered) = (term, None, None);
            }
            if contact.term == term {
                contact.asked.get_or_insert_with(Instant::now);
            }
        });
    }

    /// `node` answered a Raft call of `term`.
    pub(crate) fn answered(&self, node: NodeId, term: u64) {
        self.note(node, |contact| {
            if contact.term == term {
                contact.answered = Some(Instant::now());
            }
        });
    }

    /// `node` said which database it has.
    pub(crate) fn has_disk(&self, node: NodeId, disk: DiskId) {
        self.note(node, |contact| contact.disk = Some(disk));
    }

    /// `node` said which commands it knows.
    pub(crate) fn knows(&self, node: NodeId, mut commands: Vec<u16>) {
        commands.truncate(MOST_COMMANDS);
        self.note(node, |contact| contact.commands = Some(commands));
    }

    /// How long ago `node` answered a call of `term` last; `None` if it never did.
    pub(crate) fn silent(&self, node: NodeId, term: u64) -> Option<Duration> {
        self.of(node, term)?.answered.map(|when| when.elapsed())
    }

    /// For how long `node` has not answered in `term`, at least: counted from the first call if it never did.
    pub(crate) fn unheard(&self, node: NodeId, term: u64) -> Option<Duration> {
        let contact = self.of(node, term)?;
        contact.answered.or(contact.asked).map(|when| when.elapsed())
    }

    /// The contact with `node`, if its times are of `term`.
    fn of(&self, node: NodeId, term: u64) -> Option<Contact> {
        self.nodes().get(&node).filter(|contact| contact.term == term).cloned()
    }

    /// The database that `node` has.
    pub(crate) fn disk(&self, node: NodeId) -> Option<DiskId> {
        self.nodes().get(&node)?.disk
    }

    /// Whether `node` said that it knows the command with this number.
    pub(crate) fn is_known(&self, node: NodeId, number: u16) -> bool {
        let nodes = self.nodes();
        nodes
            .get(&node)
            .and_then(|contact| contact.commands.as_ref())
            .is_some_and(|known| known.contains(&number))
    }

    /// Forgets a node that left the group.
    pub(crate) fn forget(&self, node: NodeId) {
        self.nodes().remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn the_silence_of_an_earlier_leadership_does_not_count() {
        let (contacts, node) = (Contacts::default(), NodeId(2));
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(3600));
        contacts.asked(node, 1);
        advance(short).await;
        assert_eq!((contacts.silent(node, 1), contacts.unheard(node, 1)), (None, Some(short)));
        contacts.answered(node, 1);
        contacts.has_disk(node, DiskId(7));
        contacts.knows(node, vec![3]);
        advance(long).await;
        assert_eq!(contacts.silent(node, 1), Some(long));

        // it leads again, and has not called anybody yet
        assert_eq!((contacts.silent(node, 9), contacts.unheard(node, 9)), (None, None));
        contacts.asked(node, 9);
        advance(short).await;
        assert_eq!((contacts.silent(node, 9), contacts.unheard(node, 9)), (None, Some(short)));
        // an answer that was on its way
        contacts.answered(node, 1);
        assert_eq!(contacts.silent(node, 9), None);
        contacts.answered(node, 9);
        assert_eq!(contacts.silent(node, 9), Some(Duration::ZERO));
        // what else is known of it stays
        assert!(contacts.disk(node) == Some(DiskId(7)) && contacts.is_known(node, 3));
    }
}
