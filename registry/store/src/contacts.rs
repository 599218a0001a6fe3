//! What the calls to and from other members tell of them: who answered when, with which database, and which commands each
//! knows.

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

    /// A Raft call to `node` is made.
    pub(crate) fn asked(&self, node: NodeId) {
        self.note(node, |contact| {
            contact.asked.get_or_insert_with(Instant::now);
        });
    }

    /// `node` answered a Raft call.
    pub(crate) fn answered(&self, node: NodeId) {
        self.note(node, |contact| contact.answered = Some(Instant::now()));
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

    /// How long ago `node` answered last; `None` if it never did.
    pub(crate) fn silent(&self, node: NodeId) -> Option<Duration> {
        self.nodes().get(&node)?.answered.map(|when| when.elapsed())
    }

    /// For how long `node` has not answered, at least: counted from the first call if it never did.
    pub(crate) fn unheard(&self, node: NodeId) -> Option<Duration> {
        let nodes = self.nodes();
        let contact = nodes.get(&node)?;
        contact.answered.or(contact.asked).map(|when| when.elapsed())
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
