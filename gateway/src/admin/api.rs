//! The JSON of the admin API, shared with the command line.
//!
//! | method and path | body | answer |
//! | --- | --- | --- |
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/services` ([`ServiceQuery`]) | | [`ServicePage`], or with `watch=true` lines of [`ServiceEvent`] |
//! | `GET /v1/services/SERVICE.NAMESPACE` | | [`ServiceDetail`] |
//! | `GET /v1/workloads` | | list of [`Workload`] |
//! | `GET /v1/resolve/SERVICE.NAMESPACE` | | [`Service`] |
//! | `GET /v1/gateways`, `GET /v1/gateways/NODE`, `DELETE /v1/gateways/NODE` | | list of [`Gateway`]; [`Gateway`]; `{}` |
//! | `PUT /v1/gateways/NODE/drain` | [`Drain`] | [`Gateway`] |
//! | `GET /v1/tokens`, `POST /v1/tokens` | [`CreateToken`] | list of [`Token`]; [`CreatedToken`] |
//! | `DELETE /v1/tokens/ID` | | `{}` |
//! | `GET /v1/links`, `GET /v1/links/CLUSTER`, `DELETE /v1/links/CLUSTER` | | list of [`Link`]; [`Link`]; `{}` |
//! | `PUT /v1/links/CLUSTER/pause`, `PUT /v1/links/CLUSTER/policy` | [`Pause`]; [`LinkPolicy`] | [`Link`] |
//! | `POST /v1/links/invite` | [`Invite`] | [`CreatedToken`] |
//! | `POST /v1/links/accept` | [`Accept`] | [`Link`] |
//! | `GET /v1/exports?consistent=true` | | list of [`Export`] that has every change that was made before |
//! | `GET /v1/exports`, `PUT /v1/exports/SERVICE` | [`ExportTo`] | list of [`Export`]; [`Export`] |
//! | `DELETE /v1/exports/SERVICE?from=CLUSTER` | | `{}` |
//! | `GET /v1/backup` | | the registry, as a file for `causeway restore` |
//! | `GET /v1/ca` | | [`Ca`] |
//! | `POST /v1/ca/rotate`, `POST /v1/ca/activate`, `DELETE /v1/ca/roots/FINGERPRINT` | [`Rotate`] | [`Rotated`]; `{}` |
//! | `GET /v1/revocations`, `POST /v1/revocations` | [`Revoke`] | list of [`Revocation`]; the same, those that were made |
//! | `DELETE /v1/revocations?subject=SUBJECT` | | `{}` |
//! | `GET /v1/check` | | list of [`Check`] |
//! | `POST /v1/apply` | [`Apply`], at most 4 MiB | [`Applied`]; [`ApplyProblem`] when it fails |
//! | `GET /v1/resources/KIND` ([`ResourceQuery`]) | | [`ResourcePage`] |
//! | `GET /v1/resources/KIND/NAME`, `DELETE /v1/resources/KIND/NAME` | | [`Document`]; `{}` |
//!
//! Every request carries `Authorization: Bearer CREDENTIAL`. A request that fails is answered by [`Problem`] with a status of 4xx
//! or 5xx.

mod resources;
mod services;

pub use super::resources::{check as check_documents, kinds};
pub use resources::{
    API_VERSION, Action, Applied, AppliedDocument, Apply, ApplyProblem, Document, FieldChange, KindInfo,
    Metadata, Mistake, Progress, ResourcePage, ResourceQuery,
};
pub use services::{
    Endpoint, HealthIs, LeftOut, Offer, OfferDetail, OfferOrigin, PathGateway, Service, ServiceDetail,
    ServiceEvent, ServiceLink, ServicePage, ServiceQuery, ServiceVip, SortBy, SortKey,
};

use serde::{Deserialize, Serialize};

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A stable word.
    pub reason: String,
    /// For the operator: name, value, cause, way out.
    pub message: String,
}

/// A gateway and its cluster at a glance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The cluster's name.
    pub cluster: String,
    /// Its id.
    pub cluster_id: u32,
    /// Its trust domain.
    pub trust_domain: String,
    /// The gateway that answers.
    pub node: String,
    /// Its role: `gateway` or `forwarder`.
    pub role: String,
    /// Its release.
    pub release: String,
    /// Where it runs: region.
    pub region: String,
    /// Where it runs: zone.
    pub zone: String,
    /// Whether it takes packets, and can keep what it must.
    pub ready: bool,
    /// Why it is not ready, as `what: why`; nothing when it is.
    #[serde(default)]
    pub not_ready: Vec<String>,
    /// Where it takes them.
    pub listen: Vec<String>,
    /// The registry.
    pub registry: Registry,
    /// Sidecars attached to this gateway.
    pub attached: u64,
    /// Live workloads in the cluster.
    pub workloads: u64,
    /// Services of the cluster.
    pub services: u64,
    /// Services imported over links.
    pub imports: u64,
    /// Links, in short.
    pub links: Vec<LinkState>,
    /// Packets: received, forwarded, dropped.
    pub packets: Packets,
    /// When this gateway's SVID ends, in seconds since 1970.
    pub svid_expires_at: u64,
}

/// The registry's state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Registry {
    /// `leader`, `follower`, `learner` or `candidate`.
    pub role: String,
    /// The leader, if there is one.
    pub leader: Option<String>,
    /// Whether changes are taken now.
    pub writable: bool,
    /// The term.
    pub term: u64,
    /// The revision that this gateway has.
    pub revision: u64,
    /// The voters.
    pub voters: Vec<String>,
    /// The learners.
    pub learners: Vec<String>,
}

/// The forwarder's counters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Packets {
    /// Received.
    pub received: u64,
    /// Sent on.
    pub forwarded: u64,
    /// Dropped, by reason; reasons that never happened are left out.
    pub dropped: std::collections::BTreeMap<String, u64>,
}

/// Whether a link works.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinkState {
    /// The linked cluster.
    pub cluster: String,
    /// As in [`Link::state`].
    pub state: String,
    /// For how long it has been silent, in seconds.
    pub stale_for: Option<u64>,
}

/// A live workload of the cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Workload {
    /// The instance.
    pub id: String,
    /// Its SPIFFE ID.
    pub identity: String,
    /// What it serves.
    pub services: Vec<String>,
    /// Its region.
    pub region: String,
    /// Its zone.
    pub zone: String,
    /// `healthy`, or the worst health among its services.
    pub health: String,
    /// The gateways that vouch for it.
    pub gateways: Vec<String>,
    /// Its sidecar's release.
    pub release: String,
}

/// A gateway of the cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Gateway {
    /// Its node id.
    pub node: String,
    /// Its role.
    pub role: String,
    /// `leader`, `voter`, `learner` or `none` in the registry.
    pub registry: String,
    /// Its region.
    pub region: String,
    /// Its zone.
    pub zone: String,
    /// Where its own cluster reaches it.
    pub cluster_addrs: Vec<String>,
    /// Where linked clusters reach it.
    pub link_addrs: Vec<String>,
    /// Whether it answers this gateway's probes; nothing for itself.
    pub alive: Option<bool>,
    /// The round-trip time to it, in microseconds.
    pub rtt_us: Option<u32>,
    /// Whether it is being taken out of use.
    pub draining: bool,
    /// By how many revisions its replica of the registry is behind that of the gateway that answers, as it last said.
    pub lag: Option<u64>,
    /// Sidecars with a control connection to it.
    pub attached: Option<u32>,
    /// Packets that it forwards in a second.
    pub packets_per_second: Option<u64>,
    /// Its release.
    pub release: Option<String>,
    /// For how long it has been running, in seconds.
    pub up_seconds: Option<u64>,
    /// When it last said so, in milliseconds; nothing when it never did.
    pub heard_ms_ago: Option<u64>,
}

/// Takes a gateway out of use, or into use again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Out of use, or in use.
    pub draining: bool,
}

/// A token to be made.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// `workload`, `gateway` or `forwarder`.
    pub role: String,
    /// The services it may serve: `SERVICE.NAMESPACE`, or `SERVICE.NAMESPACE:PORT[/PROTOCOL],...` to declare ports.
    #[serde(default)]
    pub services: Vec<String>,
    /// The namespace of the identity; that of the first service unless given, `default` if there is none.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The service account of the identity; the name of the first service unless given.
    #[serde(default)]
    pub account: Option<String>,
    /// How often it may be used.
    #[serde(default)]
    pub uses: Option<u32>,
    /// For how long, in seconds.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
}

/// A token that was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreatedToken {
    /// Its id.
    pub id: String,
    /// The token: shown once and stored nowhere.
    pub token: String,
    /// When it ends, in seconds since 1970.
    pub expires_at: u64,
}

/// A token in the registry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Token {
    /// Its id.
    pub id: String,
    /// `workload`, `gateway`, `forwarder` or `link`.
    pub role: String,
    /// The SPIFFE ID that it gives, for a workload.
    pub identity: Option<String>,
    /// The services that it may serve.
    pub services: Vec<String>,
    /// How often it may still be used.
    pub uses_left: u32,
    /// When it ends, in seconds since 1970.
    pub expires_at: u64,
    /// `valid`, `expired`, `used-up` or `revoked`.
    pub state: String,
}

/// An invitation to link.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// The only cluster that may accept.
    #[serde(default)]
    pub for_cluster: Option<String>,
    /// For how long, in seconds; 900 unless given.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
}

/// The acceptance of an invitation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// The token.
    pub token: String,
    /// Namespaces in which the peer's services join local ones of the same name; all unless given.
    #[serde(default)]
    pub merge_namespaces: Option<Vec<String>>,
}

/// A link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Link {
    /// The linked cluster.
    pub cluster: String,
    /// Its id.
    pub cluster_id: u32,
    /// Its trust domain.
    pub trust_domain: String,
    /// Its region.
    pub region: String,
    /// `up`, `stale`, `down`, `paused`, or `one-way`: packets between some two gateways arrive in one direction only, and no two
    /// gateways hear each other.
    pub state: String,
    /// For how long it has been silent, in seconds.
    pub stale_for: Option<u64>,
    /// When it was made, in seconds since 1970.
    pub established_at: u64,
    /// Services that it offers us.
    pub imports: u64,
    /// Services that we offer it.
    pub exports: u64,
    /// Offers of it that were refused, and why: the newest 20.
    pub refused: Vec<String>,
    /// Its gateways and the paths to them.
    pub gateways: Vec<LinkGateway>,
    /// SHA-256 of its root certificates.
    pub roots: Vec<String>,
    /// Its release, as last said.
    pub release: Option<String>,
    /// Whether it is paused here: nothing is shared over it for now.
    pub paused: bool,
    /// Whether the linked cluster has paused it.
    pub peer_paused: bool,
    /// Namespaces in which the peer's services join local ones of the same name; `*` stands for all.
    pub merge_namespaces: Vec<String>,
    /// What becomes of the peer's services while the link is silent.
    pub stale: Stale,
    /// Whether traffic between this peer and others may pass through this cluster, and traffic of this cluster through the peer.
    pub transit: bool,
    /// The clusters that its traffic passes through, by name where they are linked and else by id; empty while it is reached directly,
    /// or not at all.
    #[serde(default)]
    pub via: Vec<String>,
}

/// What becomes of a peer's services while its link is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Stale {
    /// They are used when nobody else offers them.
    ServeLast,
    /// So they are for a while, and then not at all.
    EjectAfter {
        /// The while, in seconds; 30 unless given, at most a day.
        #[serde(default)]
        seconds: Option<u32>,
    },
    /// They are not used from the moment the link is silent.
    Fence,
}

/// Pauses a link, or resumes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// Paused, or not.
    pub paused: bool,
}

/// How the services of a linked cluster are used; what is not given stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkPolicy {
    /// Namespaces in which its services join local ones of the same name; `*` stands for all.
    #[serde(default)]
    pub merge_namespaces: Option<Vec<String>>,
    /// What becomes of them while the link is silent.
    #[serde(default)]
    pub stale: Option<Stale>,
    /// Whether traffic between it and others may pass through this cluster, and traffic of this cluster through it.
    #[serde(default)]
    pub transit: Option<bool>,
}

/// A gateway of a linked cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinkGateway {
    /// Its node id.
    pub node: String,
    /// Its address.
    pub addr: String,
    /// Source ports from which it answers, of how many.
    pub ports: (usize, usize),
    /// The round-trip time, in microseconds.
    pub rtt_us: Option<u32>,
    /// Whether a control connection to it stands.
    pub control: bool,
    /// The round-trip time of heartbeats over control connections, in microseconds. This and what follows is of the pair of it and the
    /// gateway that answers, and null until there was a control connection.
    pub rtt_control_us: Option<u32>,
    /// Its heartbeats of the last 20 s that did not arrive, in percent.
    pub loss_in: Option<u8>,
    /// Ours that did not arrive there, in percent.
    pub loss_out: Option<u8>,
    /// `up`, `silent`, or which direction is lost: `one-way: iad/0000000000000001 -> phx/0000000000000002 is lost`.
    pub verdict: Option<String>,
}

/// To whom a service is exported.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportTo {
    /// The clusters; nothing means every linked one.
    #[serde(default)]
    pub to: Option<Vec<String>>,
}

/// An export.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Export {
    /// The service.
    pub service: String,
    /// Its handle.
    pub handle: String,
    /// The clusters; `*` stands for every linked one.
    pub to: Vec<String>,
    /// Those of them that are not linked yet.
    pub not_linked: Vec<String>,
}

/// One thing that `check` looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// `ok`, `warning` or `failed`.
    pub state: String,
    /// What was seen.
    pub seen: String,
    /// The likely cause, when it is not fine.
    pub cause: Option<String>,
    /// What to do.
    pub fix: Option<String>,
}

/// The cluster's certificate authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ca {
    /// The trust domain.
    pub trust_domain: String,
    /// The roots that are trusted, the one that signs first.
    pub roots: Vec<CaRoot>,
    /// SHA-256 of the certificates between the root and what it signs.
    pub intermediates: Vec<String>,
    /// When the present signer began, in seconds since 1970.
    pub activated_at: u64,
    /// Whether a rotation is under way.
    pub rotating: bool,
    /// What the rotation waits for; empty when it is about to make its next step, or when there is none.
    pub waits_for: Vec<String>,
    /// What is to be done soon.
    pub warning: Option<String>,
}

/// A root certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaRoot {
    /// Its SHA-256.
    pub fingerprint: String,
    /// `signing`, `announced` (trusted, signs nothing yet) or `kept` (older, still trusted).
    pub state: String,
    /// Whether somebody who is connected has a certificate of it.
    pub in_use: bool,
    /// When it ends, in seconds since 1970.
    pub not_after: Option<u64>,
    /// The certificate (PEM, RFC 7468).
    pub pem: String,
}

/// Begins a rotation of the root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// For how long, in seconds, the older root stays trusted after nobody who is connected has a certificate of it; 25 hours
    /// unless given, at most 90 days.
    #[serde(default)]
    pub keep_seconds: Option<u64>,
    /// The certificates of a certificate authority of the operator's own (PEM): the signer first, the root last.
    #[serde(default)]
    pub certificates: Option<String>,
    /// The signer's private key (PEM, PKCS#8 or SEC1, not encrypted).
    #[serde(default)]
    pub key: Option<String>,
}

/// A rotation has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotated {
    /// SHA-256 of the announced root.
    pub root: String,
}

/// Revokes the certificates of one subject: one of the fields is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// All certificates of this identity that were issued until now: a SPIFFE ID, or `NAMESPACE/ACCOUNT`.
    #[serde(default)]
    pub identity: Option<String>,
    /// Those of this public key: `key:` and its SHA-256.
    #[serde(default)]
    pub key: Option<String>,
    /// Those of this live workload: of its newest SVID, and of up to three before it, as far as this cluster issued them meanwhile.
    #[serde(default)]
    pub workload: Option<String>,
}

/// A revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// A SPIFFE ID, or `key:` and a SHA-256.
    pub subject: String,
    /// Certificates that were issued in this second or before are refused, in seconds since 1970.
    pub issued_before: u64,
    /// When it is forgotten, in seconds since 1970: what it refuses has expired by then.
    pub ends_at: u64,
    /// Who asked for it.
    pub by: String,
}
