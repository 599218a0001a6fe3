//! Intent: the replicated state machine of a cluster. Pure.
//!
//! This crate owns what the operators of a cluster have asked for: its facts and keys, its gateways, which identity may
//! serve which service, what is exported to whom, links, tokens, virtual addresses and the audit of it all. A [`Command`] goes in with a
//! revision, [`Catalog::apply`] changes the state or refuses, and says what changed as [`Event`]s. Every replica that
//! applies the same commands holds an equal catalog: time and random values come in the command, from its proposer, and
//! every collection is ordered.
//!
//! It owns no liveness (who is up, where: the presence crate), no consensus, disk or network (the store crate), no
//! cryptography (a hash places virtual addresses), no clock and no randomness.
//!
//! Everything that is stored derives serde for formats that are not self-describing: the order of fields and variants
//! *is* the layout. A change of layout raises [`Command::VERSION`] or [`Catalog::VERSION`].

mod apply;
mod bound;
mod catalog;
mod command;
mod event;
mod id;
mod query;
mod rebase;
mod record;
mod refusal;
mod secret;
#[cfg(test)]
mod tests;
mod vip;
mod watch;

pub use bound::{
    Bound, GATEWAY_REVOCATIONS, MAX_ACTOR_LEN, MAX_AUDIT_ENTRIES, MAX_VIP_BATCH, MAX_VIPS, TOMBSTONE_SECS,
};
pub use catalog::{Applied, Catalog, Outcome};
pub use command::{
    ActivateRoot, AddGateway, AllocateVips, Change, ChangeIf, Command, CommandBody, ConfirmRoots,
    CreateInvite, CreateToken, DeclarePorts, DrainGateway, DropKeys, DropRoot, EstablishLink, Export,
    ExportTo, InitCluster, LinkIntent, MergeRule, PauseLink, Reinstate, RemoveGateway, RemoveLink,
    RemoveService, Revoke, RevokeInvite, RevokeToken, RotateKeys, ServiceDeclaration, SetLinkPolicy,
    StageRoot, StalePolicy, TokenKind, TokenUser, Unexport, UpdateGateway, UpdateLinkPeer, UseToken, Witness,
};
pub use event::Event;
pub use id::{InviteId, TokenId};
pub use record::{
    AuditEntry, CaState, ClusterState, Exported, Invite, InviteState, Link, Revoked, Service, StagedCa, Token,
};
pub use refusal::Refusal;
pub use secret::{CidKey, LinkKey, ProbeKey, Verifier};
pub use watch::{EventLog, Replay};
