//! Changes that hold only if nobody else changed the resource meanwhile.

use crate::{
    CommandBody, DeclarePorts, Export, ExportTo, MergeRule, PauseLink, SetLinkPolicy, StalePolicy, Unexport,
};
use causeway_model::PortSet;
use serde::{Deserialize, Serialize};

/// Changes a resource if it still is what the change was worked out from. Who reads, compares and then writes would otherwise take
/// back what somebody else wrote in between, and nobody would notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeIf {
    /// What the resource was when it was read.
    pub was: Witness,
    /// What becomes of it.
    pub change: Change,
}

/// What operators have said of a resource; nothing where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Witness {
    /// The ports of a service.
    Service(Option<PortSet>),
    /// To whom a service is exported.
    Export(Option<ExportTo>),
    /// How a link is used.
    Link(Option<LinkIntent>),
}

/// What operators have said of a link. What its peer says of itself is no part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkIntent {
    /// Where its services merge with ours. No namespaces are [`MergeRule::None`].
    pub merge_namespaces: MergeRule,
    /// What becomes of them while the link is silent.
    pub stale: StalePolicy,
    /// Whether traffic between this peer and others may pass through this cluster.
    pub transit: bool,
    /// Whether it is paused here.
    pub paused: bool,
}

/// A change of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Of a service.
    DeclarePorts(DeclarePorts),
    /// Of an export.
    Export(Export),
    /// Of an export.
    Unexport(Unexport),
    /// Of a link.
    SetLinkPolicy(SetLinkPolicy),
    /// Of a link.
    PauseLink(PauseLink),
}

impl Change {
    /// The kind and name of the resource, for operators.
    pub fn resource(&self) -> String {
        match self {
            Self::DeclarePorts(c) => format!("service {}", c.service),
            Self::Export(c) => format!("export {}", c.service),
            Self::Unexport(c) => format!("export {}", c.service),
            Self::SetLinkPolicy(c) => format!("link {}", c.cluster),
            Self::PauseLink(c) => format!("link {}", c.cluster),
        }
    }
}

impl From<Change> for CommandBody {
    fn from(change: Change) -> Self {
        match change {
            Change::DeclarePorts(c) => c.into(),
            Change::Export(c) => c.into(),
            Change::Unexport(c) => c.into(),
            Change::SetLinkPolicy(c) => c.into(),
            Change::PauseLink(c) => c.into(),
        }
    }
}

macro_rules! changes {
    ($($variant:ident)*) => {
        $(impl From<$variant> for Change {
            fn from(change: $variant) -> Self {
                Self::$variant(change)
            }
        })*
    };
}

changes! { DeclarePorts Export Unexport SetLinkPolicy PauseLink }
