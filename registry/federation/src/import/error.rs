//! Why a frame of exports was not taken.

use crate::peer::MAX_PEER_NODES;
use causeway_model::{Epoch, NodeId, Revision};

/// A frame of exports, or a connection, that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Something is missing before it.
    #[error("exports of epoch {} from revision {} do not follow what is here ({}); a snapshot is needed",
        needed.0, needed.1, have.map_or_else(|| "nothing".to_owned(), |(e, r)| format!("epoch {e}, revision {r}")))]
    Gap {
        /// Where our copy ends.
        have: Option<(Epoch, Revision)>,
        /// Where it would have to end, or the revision of the snapshot of which a part is missing.
        needed: (Epoch, Revision),
        /// Whether to send `SendSnapshot` now; clear when one was asked for a moment ago.
        ask: bool,
    },
    /// More exports in a frame than the protocol allows.
    #[error("{0} exports in one frame, the most is 512: the peer breaks the protocol, close the connection")]
    TooManyExports(usize),
    /// A delta that leads backwards.
    #[error(
        "a delta leads from revision {from} back to {to}: the peer breaks the protocol, close the connection"
    )]
    Backwards {
        /// Its start.
        from: Revision,
        /// Its end.
        to: Revision,
    },
    /// A snapshot with too many parts.
    #[error("a snapshot does not end after part {0}: the peer breaks the protocol, close the connection")]
    EndlessSnapshot(u32),
    /// Too many gateways of one peer.
    #[error("gateway {0} would be the peer's {n}th with imports at a time; its exports are known from the others", n = MAX_PEER_NODES + 1)]
    TooManyNodes(NodeId),
    /// A frame of a gateway without a connection.
    #[error("gateway {0} has no open connection; its frame is ignored")]
    NotOpen(NodeId),
}

impl ImportError {
    /// The stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Gap { .. } => "export-gap",
            Self::TooManyExports(_) => "too-many-exports",
            Self::Backwards { .. } => "backwards-delta",
            Self::EndlessSnapshot(_) => "endless-snapshot",
            Self::TooManyNodes(_) => "too-many-peer-gateways",
            Self::NotOpen(_) => "not-open",
        }
    }

    /// Whether to send `SendSnapshot` on the connection that the frame came over.
    pub fn ask(&self) -> bool {
        matches!(self, Self::Gap { ask: true, .. })
    }

    /// Whether the speaker breaks the protocol, so that its connection should be closed.
    pub fn is_violation(&self) -> bool {
        matches!(self, Self::TooManyExports(_) | Self::Backwards { .. } | Self::EndlessSnapshot(_))
    }
}
