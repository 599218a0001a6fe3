//! The state machine itself: its state, and how a command passes through it.

use crate::bound::{self, MAX_ACTOR_LEN, MAX_AUDIT_ENTRIES, TOMBSTONE_SECS, cut};
use crate::vip::VipTable;
use crate::{
    AuditEntry, ClusterState, Command, CommandBody, Event, Exported, Invite, InviteId, Link, Refusal,
    Revoked, Service, Token, TokenId, TokenKind, TokenUser,
};
use causeway_model::{
    ClusterName, GatewayFacts, NodeId, Revision, RevokedSubject, ServiceHandle, ServiceName, SpiffeId, Vip,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The intent of one cluster.
///
/// A catalog is a function of the commands that were applied to it, with their revisions: replicas that applied the same
/// ones are equal. It serializes completely, so that a stored one goes on where it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    pub(crate) revision: Revision,
    pub(crate) cluster: Option<ClusterState>,
    pub(crate) gateways: BTreeMap<NodeId, GatewayFacts>,
    /// Gateways that are being taken out of use.
    pub(crate) draining: BTreeSet<NodeId>,
    /// Gateways that were removed, and when, in seconds since the Unix epoch.
    pub(crate) removed: BTreeMap<NodeId, u64>,
    /// Whose certificates are refused.
    pub(crate) revoked: BTreeMap<RevokedSubject, Revoked>,
    pub(crate) services: BTreeMap<ServiceName, Service>,
    /// What each identity may serve: the other way round of [`Service::identities`].
    pub(crate) by_identity: BTreeMap<SpiffeId, BTreeSet<ServiceName>>,
    pub(crate) exports: BTreeMap<ServiceName, Exported>,
    /// The other way round of [`Exported::handle`].
    pub(crate) by_handle: BTreeMap<ServiceHandle, ServiceName>,
    pub(crate) links: BTreeMap<ClusterName, Link>,
    pub(crate) tokens: BTreeMap<TokenId, Token>,
    pub(crate) invites: BTreeMap<InviteId, Invite>,
    /// When whom this cluster trusts last changed: its own roots, those of a linked cluster, or a revocation.
    pub(crate) trust_changed: Revision,
    /// When the part of it that is this cluster's own last changed: its roots, or a revocation of its certificates.
    pub(crate) own_trust_changed: Revision,
    /// Before this time nothing is to be purged.
    pub(crate) purge_at: u64,
    pub(crate) audit: VecDeque<AuditEntry>,
    /// The last uses of tokens, oldest first.
    pub(crate) last_uses: VecDeque<(TokenId, TokenUser)>,
    /// What applications connect to.
    pub(crate) vips: VipTable,
}

/// What a command answers when it is carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is done; there is nothing to tell.
    Done,
    /// The token may be used once more by whoever asked.
    Token {
        /// What it is for.
        kind: TokenKind,
    },
    /// The service is exported.
    Exported {
        /// Its handle, which may be an older one than the command's.
        handle: ServiceHandle,
        /// Clusters that the command names and that no link leads to yet.
        unlinked: Vec<ClusterName>,
    },
    /// The link is made.
    Link {
        /// True when it replaced the link to the same cluster.
        replaced: bool,
    },
    /// The virtual addresses of the names, in their order, or why one has none.
    Vips {
        /// One for each.
        vips: Vec<Result<Vip, Refusal>>,
    },
}

/// What became of a command.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The answer to whoever proposed it.
    pub outcome: Result<Outcome, Refusal>,
    /// What changed, for watchers. A refused command may still have purged what had expired.
    pub events: Vec<Event>,
}

/// When and for whom a command is applied.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) revision: Revision,
    pub(crate) at: u64,
    pub(crate) by: &'a str,
}

/// What a command that was carried out answers, and what it changed.
pub(crate) type Effect = (Outcome, Vec<Event>);

/// The effect of a command that answers nothing.
pub(crate) fn done(events: impl Into<Vec<Event>>) -> Effect {
    (Outcome::Done, events.into())
}

impl Catalog {
    /// The layout of an encoded catalog.
    pub const VERSION: u16 = 1;

    /// A catalog with no cluster, at revision 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Carries out `command`, the log's entry at `revision`, or refuses it.
    ///
    /// A refused command changes nothing except that it is audited and that long expired tokens and invites are purged. Every command
    /// is audited but those that are not to be ([`CommandBody::is_audited`]).
    /// A revision that is not newer than the catalog's changes nothing at all, so a log may be replayed.
    pub fn apply(&mut self, revision: Revision, command: &Command) -> Applied {
        if revision <= self.revision {
            let refusal = Refusal::RevisionReplayed { have: self.revision, asked: revision };
            return Applied { outcome: Err(refusal), events: Vec::new() };
        }
        self.revision = revision;
        let mut events = Vec::new();
        self.purge(command.at, &mut events);
        let context = Context { revision, at: command.at, by: &command.by };
        let outcome =
            match bound::check_actor(&command.by).and_then(|()| self.execute(context, &command.body)) {
                Ok((outcome, new)) => {
                    let known = events.len();
                    let new: Vec<Event> =
                        new.into_iter().filter(|event| !events[..known].contains(event)).collect();
                    events.extend(new);
                    Ok(outcome)
                }
                Err(refusal) => Err(refusal),
            };
        self.record(context, &command.body, outcome.as_ref().err());
        Applied { outcome, events }
    }

    fn execute(&mut self, context: Context<'_>, body: &CommandBody) -> Result<Effect, Refusal> {
        match body {
            CommandBody::InitCluster(c) => self.init_cluster(context, c),
            CommandBody::AddGateway(c) => self.add_gateway(&c.facts),
            CommandBody::UpdateGateway(c) => self.update_gateway(&c.facts),
            CommandBody::RemoveGateway(c) => self.remove_gateway(context, c),
            CommandBody::CreateToken(c) => self.create_token(context, c),
            CommandBody::UseToken(c) => self.use_token(context, c),
            CommandBody::RevokeToken(c) => self.revoke_token(c.id),
            CommandBody::DeclarePorts(c) => self.declare_ports(context, c),
            CommandBody::RemoveService(c) => self.remove_service(&c.name),
            CommandBody::Export(c) => self.export(context, c),
            CommandBody::Unexport(c) => self.unexport(context, c),
            CommandBody::CreateInvite(c) => self.create_invite(context, c),
            CommandBody::RevokeInvite(c) => self.revoke_invite(c.id),
            CommandBody::EstablishLink(c) => self.establish_link(context, c),
            CommandBody::UpdateLinkPeer(c) => self.update_link_peer(context, c),
            CommandBody::RemoveLink(c) => self.remove_link(context, &c.cluster),
            CommandBody::RotateKeys(c) => self.rotate_keys(c),
            CommandBody::DropKeys(c) => self.drop_keys(c),
            CommandBody::DrainGateway(c) => self.drain_gateway(c),
            CommandBody::PauseLink(c) => self.pause_link(context, c),
            CommandBody::SetLinkPolicy(c) => self.set_link_policy(context, c),
            CommandBody::StageRoot(c) => self.stage_root(context, c),
            CommandBody::ActivateRoot(c) => self.activate_root(context, c),
            CommandBody::DropRoot(c) => self.drop_root(context, c),
            CommandBody::ConfirmRoots(c) => self.confirm_roots(c),
            CommandBody::Revoke(c) => self.revoke(context, c),
            CommandBody::Reinstate(c) => self.reinstate(context, c),
            CommandBody::ChangeIf(c) => self.change_if(context, c),
            CommandBody::AllocateVips(c) => self.allocate_vips(c),
        }
    }

    /// Forgets tokens and invites that expired a while before `at`, and revocations that refuse nothing any more.
    fn purge(&mut self, at: u64, events: &mut Vec<Event>) {
        if at < self.purge_at {
            return;
        }
        let revocations = self.revoked.len();
        self.revoked.retain(|_, revoked| revoked.ends_at > at);
        if self.revoked.len() < revocations {
            self.own_trust_changes(self.revision);
            events.push(Event::ClusterChanged);
        }
        let before = self.tokens.len() + self.invites.len();
        self.tokens.retain(|_, token| ends(token.expires_at) > at);
        self.invites.retain(|_, invite| ends(invite.expires_at) > at);
        let tokens = self.tokens.values().map(|token| ends(token.expires_at));
        let invites = self.invites.values().map(|invite| ends(invite.expires_at));
        let revocations = self.revoked.values().map(|revoked| revoked.ends_at);
        self.purge_at = tokens.chain(invites).chain(revocations).min().unwrap_or(u64::MAX);
        if self.tokens.len() + self.invites.len() < before {
            events.push(Event::TokensChanged);
        }
    }

    /// Whom this cluster trusts changes at `revision`, by something that this cluster says of itself.
    pub(crate) fn own_trust_changes(&mut self, revision: Revision) {
        (self.trust_changed, self.own_trust_changed) = (revision, revision);
    }

    /// Sees to it that something which expires at `expires_at` is purged in time.
    pub(crate) fn purge_after(&mut self, expires_at: u64) {
        self.purge_at = self.purge_at.min(ends(expires_at));
    }

    fn record(&mut self, context: Context<'_>, body: &CommandBody, refused: Option<&Refusal>) {
        if !body.is_audited() {
            return;
        }
        while self.audit.len() >= MAX_AUDIT_ENTRIES {
            self.audit.pop_front();
        }
        self.audit.push_back(AuditEntry {
            revision: context.revision,
            at: context.at,
            by: cut(context.by, MAX_ACTOR_LEN).to_owned(),
            command: body.name().to_owned(),
            subject: cut(&body.subject(), 256).to_owned(),
            refused: refused.cloned(),
        });
    }
}

/// When something that expires at `expires_at` is forgotten.
fn ends(expires_at: u64) -> u64 {
    expires_at.saturating_add(TOMBSTONE_SECS)
}
