//! What the clients of a cluster know: what they asked for, what was acknowledged, and the one history that follows.
//!
//! A write that failed or timed out is unknown: it may take effect at any later time, or never.

use crate::invariants::acknowledged::Intent;
use crate::invariants::{Verdict, acknowledged, replicas};
use causeway_catalog::{Applied, Catalog, Command, CommandBody};
use causeway_model::Revision;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// The number of a write among all writes of all clients.
pub(crate) type WriteId = usize;

/// What a client knows of its write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Waiting { until: Instant },
    Acknowledged,
    Unknown,
}

pub(crate) struct Write {
    pub(crate) cluster: usize,
    pub(crate) command: Arc<Command>,
    pub(crate) known: Known,
}

/// The history of one cluster, as the replicas have applied it.
#[derive(Default)]
pub(crate) struct History {
    /// A catalog beside those of the replicas, which every revision is applied to once.
    pub(crate) reference: Catalog,
    pub(crate) applied: BTreeMap<Revision, (Arc<Command>, Applied)>,
    /// Up to where the log is known, blank entries included.
    pub(crate) known: Revision,
    pub(crate) acknowledged: BTreeMap<Revision, WriteId>,
    pub(crate) intent: Intent,
}

#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) writes: Vec<Write>,
    pub(crate) clusters: Vec<History>,
}

impl Oracle {
    pub(crate) fn asked(
        &mut self,
        cluster: usize,
        at: u64,
        body: impl Into<CommandBody>,
        until: Instant,
    ) -> WriteId {
        let id = self.writes.len();
        let command = Command { at, by: format!("client/{id}"), body: body.into() };
        self.writes.push(Write { cluster, command: Arc::new(command), known: Known::Waiting { until } });
        id
    }

    /// A replica of `cluster` has applied what its log holds at `revision`: nothing if the entry is blank.
    pub(crate) fn applied(
        &mut self,
        cluster: usize,
        revision: Revision,
        entry: Option<(&Arc<Command>, &Applied)>,
    ) -> Verdict {
        let history = &mut self.clusters[cluster];
        let by = entry.map(|(command, _)| command.by.as_str());
        if let Some(id) = history.acknowledged.get(&revision) {
            acknowledged::check_kept(revision, &self.writes[*id].command.by, by)?;
        }
        if revision <= history.known {
            return replicas::check_entry(history, revision, entry);
        }
        history.known = revision;
        if let Some((command, applied)) = entry {
            let expected = history.reference.apply(revision, command);
            replicas::check_answer(revision, &expected, applied)?;
            if applied.outcome.is_ok() {
                history.intent.follow(&command.body);
            }
            history.applied.insert(revision, (command.clone(), applied.clone()));
        }
        Ok(())
    }

    /// A client was told that its write was applied at `revision`.
    pub(crate) fn acknowledged(&mut self, id: WriteId, revision: Revision) -> Verdict {
        let write = &mut self.writes[id];
        write.known = Known::Acknowledged;
        let history = &mut self.clusters[write.cluster];
        history.acknowledged.insert(revision, id);
        if revision <= history.known {
            let kept = history.applied.get(&revision).map(|(command, _)| command.by.as_str());
            acknowledged::check_kept(revision, &write.command.by, kept)?;
        }
        Ok(())
    }
}
