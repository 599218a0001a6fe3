//! What can be asked of a catalog.

mod cluster;
mod guarded;
mod link;
mod service;
mod token;
mod trust;
mod vip;

pub use cluster::{
    AddGateway, DrainGateway, DropKeys, InitCluster, RemoveGateway, RotateKeys, UpdateGateway,
};
pub use guarded::{Change, ChangeIf, LinkIntent, Witness};
pub use link::{
    CreateInvite, EstablishLink, MergeRule, PauseLink, RemoveLink, RevokeInvite, SetLinkPolicy, StalePolicy,
    UpdateLinkPeer,
};
pub use service::{DeclarePorts, Export, ExportTo, RemoveService, Unexport};
pub use token::{CreateToken, RevokeToken, ServiceDeclaration, TokenKind, TokenUser, UseToken};
pub use trust::{ActivateRoot, ConfirmRoots, DropRoot, Reinstate, Revoke, StageRoot};
pub use vip::AllocateVips;

use serde::{Deserialize, Serialize};

/// One entry of the log: who asks for what, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The proposer's clock, in seconds since the Unix epoch. It decides what has expired.
    pub at: u64,
    /// Who asks, for the audit: 1 to [`crate::MAX_ACTOR_LEN`] bytes.
    pub by: String,
    /// What is asked.
    pub body: CommandBody,
}

impl Command {
    /// The layout of an encoded command.
    pub const VERSION: u16 = 1;
}

macro_rules! bodies {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)*) => {
        /// What a command asks for. New variants go at the end, with a number of their own: both the order and the
        /// numbers are part of the log's layout.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum CommandBody {
            $($(#[$doc])* $variant($variant),)*
        }

        impl CommandBody {
            /// The numbers of all commands that this release knows, in ascending order. A command is proposed only once
            /// every member of the cluster has announced its number.
            pub const KNOWN: &[u16] = &[$($number),*];

            /// The last command of the first release: every member knows those up to it.
            pub const FIRST_RELEASE: u16 = 29;

            /// The command's stable number.
            pub fn number(&self) -> u16 {
                match self {
                    $(Self::$variant(_) => $number,)*
                }
            }

            fn own_name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                }
            }
        }

        $(impl From<$variant> for CommandBody {
            fn from(body: $variant) -> Self {
                Self::$variant(body)
            }
        })*
    };
}

bodies! {
    /// Gives the cluster its facts, CA, keys and first gateway. The first command of every catalog.
    InitCluster = 1, "init-cluster";
    /// Admits a gateway.
    AddGateway = 2, "add-gateway";
    /// Changes where a gateway runs and is reached.
    UpdateGateway = 3, "update-gateway";
    /// Removes a gateway.
    RemoveGateway = 4, "remove-gateway";
    /// Creates a join token.
    CreateToken = 5, "create-token";
    /// Spends one use of a token.
    UseToken = 6, "use-token";
    /// Revokes a token.
    RevokeToken = 7, "revoke-token";
    /// Declares the ports of a service.
    DeclarePorts = 8, "declare-ports";
    /// Removes a service.
    RemoveService = 9, "remove-service";
    /// Offers a service to linked clusters.
    Export = 10, "export";
    /// Takes back an offer.
    Unexport = 11, "unexport";
    /// Creates a link invite.
    CreateInvite = 12, "create-invite";
    /// Revokes a link invite.
    RevokeInvite = 13, "revoke-invite";
    /// Makes a link to another cluster.
    EstablishLink = 14, "establish-link";
    /// Records what a linked cluster says of its own gateways and roots.
    UpdateLinkPeer = 15, "update-link-peer";
    /// Removes a link.
    RemoveLink = 16, "remove-link";
    /// Adds an epoch of keys.
    RotateKeys = 17, "rotate-keys";
    /// Drops epochs of keys.
    DropKeys = 18, "drop-keys";
    /// Takes a gateway out of use, or into use again.
    DrainGateway = 19, "drain-gateway";
    /// Stops sharing services over a link for a while, or shares them again.
    PauseLink = 20, "pause-link";
    /// Changes how the services of a linked cluster are used.
    SetLinkPolicy = 21, "set-link-policy";
    /// Announces a further root.
    StageRoot = 22, "stage-root";
    /// Signs with the announced root.
    ActivateRoot = 23, "activate-root";
    /// Trusts a root no longer.
    DropRoot = 24, "drop-root";
    /// Records that a linked cluster has taken this one's roots.
    ConfirmRoots = 25, "confirm-roots";
    /// Refuses all certificates of a subject that were issued until now.
    Revoke = 26, "revoke";
    /// Takes back a revocation.
    Reinstate = 27, "reinstate";
    /// Changes a resource if it still is what it was.
    ChangeIf = 28, "change-if";
    /// Gives names virtual addresses.
    AllocateVips = 29, "allocate-vips";
}

impl CommandBody {
    /// The command's name in the audit: of a change with a condition, that of the change.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ChangeIf(c) => Self::from(c.change.clone()).own_name(),
            other => other.own_name(),
        }
    }

    /// Whether the audit keeps it.
    pub fn is_audited(&self) -> bool {
        !matches!(self, Self::AllocateVips(_))
    }

    /// The name of the thing that the command is about, for the audit.
    pub fn subject(&self) -> String {
        match self {
            Self::InitCluster(c) => c.facts.name.to_string(),
            Self::AddGateway(c) => c.facts.node.to_string(),
            Self::UpdateGateway(c) => c.facts.node.to_string(),
            Self::RemoveGateway(c) => c.node.to_string(),
            Self::CreateToken(c) => format!("{} for {}", c.id, c.kind),
            Self::UseToken(c) => format!("{} by {}", c.id, c.user),
            Self::RevokeToken(c) => c.id.to_string(),
            Self::DeclarePorts(c) => format!("{} {}", c.service, c.ports),
            Self::RemoveService(c) => c.name.to_string(),
            Self::Export(c) => format!("{} to {}", c.service, c.to),
            Self::Unexport(c) => c.service.to_string(),
            Self::CreateInvite(c) => c.id.to_string(),
            Self::RevokeInvite(c) => c.id.to_string(),
            Self::EstablishLink(c) => format!("{} ({})", c.peer.name, c.peer.trust_domain),
            Self::UpdateLinkPeer(c) => c.cluster.to_string(),
            Self::RemoveLink(c) => c.cluster.to_string(),
            Self::RotateKeys(c) => c.to_string(),
            Self::DropKeys(c) => c.to_string(),
            Self::DrainGateway(c) => format!("{}: {}", c.node, if c.draining { "drain" } else { "serve" }),
            Self::PauseLink(c) => format!("{}: {}", c.cluster, if c.paused { "pause" } else { "resume" }),
            Self::SetLinkPolicy(c) => c.cluster.to_string(),
            Self::StageRoot(_) | Self::ActivateRoot(_) | Self::DropRoot(_) => {
                "certificate authority".to_owned()
            }
            Self::ConfirmRoots(c) => format!("{} at {}", c.cluster, c.revision),
            Self::Revoke(c) => c.subjects.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            Self::Reinstate(c) => c.subject.to_string(),
            Self::ChangeIf(c) => Self::from(c.change.clone()).subject(),
            Self::AllocateVips(c) => format!("{} names", c.names.len()),
        }
    }
}
