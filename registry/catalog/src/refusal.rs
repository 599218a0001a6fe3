//! Why a command was not carried out.

use crate::bound::{MAX_VIPS, cut};
use crate::{Bound, InviteId, TokenId};
use causeway_model::{
    ClusterId, ClusterName, Epoch, GatewayRole, NodeId, PortSet, Revision, Revocation, RevokedSubject,
    ServiceHandle, ServiceName, SpiffeId, TrustDomain, VipName,
};
use serde::{Deserialize, Serialize};

macro_rules! refusals {
    ($(
        $(#[$doc:meta])*
        $text:literal $(, $arg:expr)? =>
        $code:literal $variant:ident $({ $($(#[$fdoc:meta])* $field:ident: $type:ty,)* })?
    )*) => {
        /// Why a command was not carried out. The messages are for the operator; [`Refusal::reason`] is for programs.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
        pub enum Refusal {
            $($(#[$doc])* #[error($text $(, $arg)?)] $variant $({ $($(#[$fdoc])* $field: $type,)* })?,)*
        }

        impl Refusal {
            /// All codes that [`Refusal::reason`] gives.
            pub const REASONS: &[&'static str] = &[$($code),*];

            /// The stable code that logs, metrics and answers share.
            pub fn reason(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $code,)*
                }
            }
        }
    };
}

refusals! {
    /// The catalog has no cluster yet.
    "the registry holds no cluster yet: start its first gateway, which initialises it" =>
    "not-initialised" NotInitialised

    /// The catalog has a cluster already.
    "the registry already belongs to cluster {cluster}: give a new cluster a state directory of its own" =>
    "already-initialised" AlreadyInitialised {
        /// Its name.
        cluster: ClusterName,
    }

    /// The command's revision is not newer than the catalog's: it was applied before.
    "revision {asked} is not newer than {have}: the log was replayed over a newer state" =>
    "revision-replayed" RevisionReplayed {
        /// The catalog's revision.
        have: Revision,
        /// The command's.
        asked: Revision,
    }

    /// A value that the command brings breaks a rule.
    "invalid {what} {value:?}: {rule}" =>
    "invalid-value" Invalid {
        /// What it is.
        what: String,
        /// What was given, cut to 128 bytes.
        value: String,
        /// The rule, and what to write instead.
        rule: String,
    }

    /// There is no room for another one.
    "limit of {} {bound} reached: remove what is no longer needed, then ask again", bound.limit() =>
    "limit-reached" LimitReached {
        /// What there are too many of.
        bound: Bound,
    }

    /// The gateway is known, with other facts.
    "gateway {node} is already a member with other facts: update it, or remove it first" =>
    "gateway-exists" GatewayExists {
        /// Its number.
        node: NodeId,
    }

    /// The gateway is not known.
    "gateway {node} is not a member of this cluster: list the gateways, or let it join with a token" =>
    "gateway-unknown" GatewayUnknown {
        /// Its number.
        node: NodeId,
    }

    /// The gateway was removed.
    "gateway {node} was removed from this cluster: start it with a new --data-dir and a new token, as a new gateway" =>
    "gateway-removed" GatewayRemoved {
        /// Its number.
        node: NodeId,
    }

    /// No gateway that is ready would be left in use.
    "gateway {node} would leave none in use that is ready: every other one is being drained, was removed, did not answer, or is a \
     forwarder; take one into use again with causeway gateways undrain, or let another join, before this one goes" =>
    "gateway-last-in-use" GatewayLastInUse {
        /// Its number.
        node: NodeId,
    }

    /// The resource is not what the change was worked out from.
    "{resource} was changed by somebody else meanwhile: look at what it is now, and run this again" =>
    "resource-changed" ResourceChanged {
        /// Its kind and name.
        resource: String,
    }

    /// The roots and revocations of a trust domain take too much room.
    "the roots and revocations of {trust_domain} take {bytes} bytes, of at most {}, some of them kept for gateways that are \
     removed: end a rotation, or reinstate what need not be refused any more", Revocation::MAX_TRUST_BYTES =>
    "trust-too-large" TrustTooLarge {
        /// The trust domain.
        trust_domain: TrustDomain,
        /// How many bytes they take.
        bytes: u64,
    }

    /// A rotation has not ended.
    "a new root was announced at unix time {since} and does not sign yet: see causeway ca show, or end that rotation first" =>
    "rotation-under-way" RotationUnderWay {
        /// When it began, in seconds since the Unix epoch.
        since: u64,
    }

    /// Only an announced root can begin to sign.
    "that root was not announced: begin with causeway ca rotate" =>
    "root-not-staged" RootNotStaged

    /// It is none of the cluster's roots.
    "that root is none of this cluster's: list them with causeway ca show" =>
    "root-unknown" RootUnknown

    /// The root that signs stays.
    "that root signs the cluster's certificates: rotate to another one first" =>
    "root-active" RootActive

    /// There is nothing to take back.
    "{subject} is not revoked: list the revocations with causeway revocations" =>
    "not-revoked" NotRevoked {
        /// Who was named.
        subject: RevokedSubject,
    }

    /// The last gateway that keeps the registry cannot be removed.
    "gateway {node} is the last one that keeps the registry: let another gateway join before this one goes" =>
    "gateway-last" GatewayLast {
        /// Its number.
        node: NodeId,
    }

    /// A gateway keeps its role.
    "gateway {node} has role {role} and asks for {asked}: remove it and let it join again with a token for that role" =>
    "gateway-role-fixed" GatewayRoleFixed {
        /// Its number.
        node: NodeId,
        /// Its role.
        role: GatewayRole,
        /// The role that it asks for.
        asked: GatewayRole,
    }

    /// The token's number is taken.
    "token {id} exists already: ask again with a new number" =>
    "token-exists" TokenExists {
        /// Its number.
        id: TokenId,
    }

    /// There is no such token, or it ended a while ago.
    "token {id} is unknown: it was made by another cluster, or ended long ago; create a new one here" =>
    "token-unknown" TokenUnknown {
        /// Its number.
        id: TokenId,
    }

    /// The token has ended.
    "token {id} expired at unix time {expires_at}, and it is {at}: create a new one, or correct the gateway's clock" =>
    "token-expired" TokenExpired {
        /// Its number.
        id: TokenId,
        /// When it ended, in seconds since the Unix epoch.
        expires_at: u64,
        /// The proposer's clock, in seconds since the Unix epoch.
        at: u64,
    }

    /// The token was used as often as it may be.
    "token {id} has no uses left: create a new one, with more uses if many workloads share it" =>
    "token-used-up" TokenUsedUp {
        /// Its number.
        id: TokenId,
    }

    /// The token was revoked.
    "token {id} was revoked: ask the operator of this cluster for a new one" =>
    "token-revoked" TokenRevoked {
        /// Its number.
        id: TokenId,
    }

    /// The token is for something else.
    "token {id} is for a {kind}, and {user} asks with it: create a token of the right kind" =>
    "token-wrong-kind" TokenWrongKind {
        /// Its number.
        id: TokenId,
        /// What it is for.
        kind: String,
        /// Who asks.
        user: String,
    }

    /// The identity is not one of this cluster's.
    "identity {identity} is not of this cluster's trust domain {own}: use an identity of {own}" =>
    "identity-foreign" IdentityForeign {
        /// The identity.
        identity: SpiffeId,
        /// The cluster's trust domain.
        own: TrustDomain,
    }

    /// The identity is not a workload's.
    "identity {identity} is not a workload's: use the form spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT" =>
    "identity-not-a-workload" IdentityNotAWorkload {
        /// The identity.
        identity: SpiffeId,
    }

    /// There is no such service.
    "service {service} is unknown: create a token that declares it" =>
    "service-unknown" ServiceUnknown {
        /// Its name.
        service: ServiceName,
    }

    /// The service is exported.
    "service {service} is exported: take back its export before removing it" =>
    "service-exported" ServiceExported {
        /// Its name.
        service: ServiceName,
    }

    /// The service has other ports.
    "service {service} has ports {declared}, and {asked} was given: every endpoint serves the same ports; \
     correct this one, or use another service name" =>
    "ports-differ" PortsDiffer {
        /// Its name.
        service: ServiceName,
        /// The ports that it has.
        declared: PortSet,
        /// The ports that were given.
        asked: PortSet,
    }

    /// The identity may not serve the service.
    "identity {identity} may not serve {service}: create a token for it that declares that service" =>
    "may-not-serve" MayNotServe {
        /// The identity.
        identity: SpiffeId,
        /// The service.
        service: ServiceName,
    }

    /// A cluster cannot export to itself.
    "service {service} cannot be exported to {cluster}, which is this cluster: name other clusters" =>
    "export-to-self" ExportToSelf {
        /// The service.
        service: ServiceName,
        /// This cluster.
        cluster: ClusterName,
    }

    /// The service is not exported, or not to any of the clusters that were named.
    "service {service} is not exported to whom was named: list the exports" =>
    "not-exported" NotExported {
        /// The service.
        service: ServiceName,
    }

    /// One cluster cannot be taken out of an export to all.
    "service {service} is exported to all clusters: export it to the clusters that shall keep it, which replaces that" =>
    "exported-to-all" ExportedToAll {
        /// The service.
        service: ServiceName,
    }

    /// The handle names another service.
    "handle {handle} already names service {service}: ask again with a new random handle" =>
    "handle-clash" HandleClash {
        /// The handle.
        handle: ServiceHandle,
        /// The service that has it.
        service: ServiceName,
    }

    /// The invite's number is taken.
    "link invite {id} exists already: ask again with a new number" =>
    "invite-exists" InviteExists {
        /// Its number.
        id: InviteId,
    }

    /// There is no such invite, or it ended a while ago.
    "link invite {id} is unknown: it was made by another cluster, or ended long ago; create a new one here" =>
    "invite-unknown" InviteUnknown {
        /// Its number.
        id: InviteId,
    }

    /// The invite has ended.
    "link invite {id} expired at unix time {expires_at}, and it is {at}: create a new one, \
     or correct the gateway's clock" =>
    "invite-expired" InviteExpired {
        /// Its number.
        id: InviteId,
        /// When it ended, in seconds since the Unix epoch.
        expires_at: u64,
        /// The proposer's clock, in seconds since the Unix epoch.
        at: u64,
    }

    /// A link was made with the invite.
    "link invite {id} was used: it makes one link only; create a new one, or remove the link that it made" =>
    "invite-used" InviteUsed {
        /// Its number.
        id: InviteId,
    }

    /// The invite was revoked.
    "link invite {id} was revoked: ask the operator of this cluster for a new one" =>
    "invite-revoked" InviteRevoked {
        /// Its number.
        id: InviteId,
    }

    /// The invite is for another cluster.
    "link invite {id} is for cluster {invited}, and {cluster} asks with it: create one for {cluster}" =>
    "invite-for-another" InviteForAnother {
        /// Its number.
        id: InviteId,
        /// The cluster that may use it.
        invited: ClusterName,
        /// The cluster that asks.
        cluster: ClusterName,
    }

    /// There is no link to that cluster.
    "no link to cluster {cluster}: list the links, or make one with an invite" =>
    "link-unknown" LinkUnknown {
        /// The cluster.
        cluster: ClusterName,
    }

    /// The peer's cluster id is another cluster's.
    "cluster {peer} has id {id}, which is that of cluster {holder}: start {peer} anew with another --cluster-id, \
     or remove the link to {holder} if they are one cluster that was rebuilt" =>
    "link-id-clash" LinkIdClash {
        /// The peer.
        peer: ClusterName,
        /// The id of both.
        id: ClusterId,
        /// The cluster that has it here: this one or a linked one.
        holder: ClusterName,
    }

    /// The peer's trust domain is another cluster's.
    "cluster {peer} has trust domain {trust_domain}, which is that of cluster {holder}: start {peer} anew with a trust \
     domain of its own, or remove the link to {holder} if they are one cluster that was rebuilt" =>
    "link-trust-domain-clash" LinkTrustDomainClash {
        /// The peer.
        peer: ClusterName,
        /// The trust domain of both.
        trust_domain: TrustDomain,
        /// The cluster that has it here: this one or a linked one.
        holder: ClusterName,
    }

    /// The peer's name is another cluster's.
    "the name {peer} belongs to another cluster here: rename the new one, \
     or remove the link to {peer} if it was rebuilt with a new trust domain" =>
    "link-name-clash" LinkNameClash {
        /// The name of both.
        peer: ClusterName,
    }

    /// What the peer says is not newer than what is known.
    "cluster {cluster} says what it said at its revision {asked}, and {have} is known: nothing to do" =>
    "link-peer-stale" LinkPeerStale {
        /// The peer.
        cluster: ClusterName,
        /// The peer's revision that is known.
        have: Revision,
        /// The one that was given.
        asked: Revision,
    }

    /// A new epoch has to be newer.
    "epoch {asked} is not newer than {newest}: another rotation was faster; rotate again" =>
    "epoch-not-newer" EpochNotNewer {
        /// The newest epoch of that kind of key.
        newest: Epoch,
        /// The one that was given.
        asked: Epoch,
    }

    /// Connection IDs could not tell the epochs apart.
    "epoch {asked} looks like live epoch {live} in connection IDs, which carry the low 4 bits: \
     use the epoch after the newest" =>
    "epoch-clash" EpochClash {
        /// The live epoch with the same low bits.
        live: Epoch,
        /// The one that was given.
        asked: Epoch,
    }

    /// There is no key of that epoch.
    "no key of epoch {epoch}: list the epochs" =>
    "epoch-unknown" EpochUnknown {
        /// The epoch.
        epoch: Epoch,
    }

    /// The newest key is in use.
    "epoch {epoch} is the newest, and in use: rotate the keys before dropping it" =>
    "epoch-newest" EpochNewest {
        /// The epoch.
        epoch: Epoch,
    }

    /// There is no virtual address left.
    "all {} virtual addresses of this cluster are given out, and no name ever loses its own: {name} has none; let its callers reach it \
     with --listen ADDR=SERVICE:PORT", MAX_VIPS =>
    "vip-exhausted" VipExhausted {
        /// The name that has none.
        name: VipName,
    }
}

impl Refusal {
    /// A value `value` of kind `what` that breaks `rule`.
    pub(crate) fn invalid(what: &str, value: &str, rule: &str) -> Self {
        Self::Invalid { what: what.to_owned(), value: cut(value, 128).to_owned(), rule: rule.to_owned() }
    }
}
