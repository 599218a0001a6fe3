//! The JSON of the admin API, shared with the command line.
//!
//! | method and path | body | answer |
//! | --- | --- | --- |
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/services` ([`ServiceQuery`]) | | [`ServicePage`], or with `watch=true` lines of [`ServiceEvent`] |
//! | `GET /v1/workloads` | | list of [`Workload`] |
//! | `GET /v1/resolve/SERVICE.NAMESPACE` | | [`Service`] |
//! | `GET /v1/gateways` | | list of [`Gateway`] |
//! | `GET /v1/tokens`, `POST /v1/tokens` | [`CreateToken`] | list of [`Token`]; [`CreatedToken`] |
//! | `DELETE /v1/tokens/ID` | | `{}` |
//! | `GET /v1/links`, `GET /v1/links/CLUSTER`, `DELETE /v1/links/CLUSTER` | | list of [`Link`]; [`Link`]; `{}` |
//! | `POST /v1/links/invite` | [`Invite`] | [`CreatedToken`] |
//! | `POST /v1/links/accept` | [`Accept`] | [`Link`] |
//! | `GET /v1/exports`, `PUT /v1/exports/SERVICE` | [`ExportTo`] | list of [`Export`]; [`Export`] |
//! | `DELETE /v1/exports/SERVICE?from=CLUSTER` | | `{}` |
//! | `GET /v1/check` | | list of [`Check`] |
//!
//! Every request carries `Authorization: Bearer CREDENTIAL`. A request that fails is answered by [`Problem`] with a status of 4xx
//! or 5xx.

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
    /// Whether it takes packets.
    pub ready: bool,
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
    /// `up`, `stale` (silent) or `down` (no gateway of it answers).
    pub state: String,
    /// For how long it has been silent, in seconds.
    pub stale_for: Option<u64>,
}

/// Which services are asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceQuery {
    /// Only this one.
    pub name: Option<String>,
    /// Only those with an offer in this region.
    pub region: Option<String>,
    /// Only those with an offer of this cluster.
    pub cluster: Option<String>,
    /// At most so many; 100 unless given, at most 1000.
    pub limit: Option<usize>,
    /// Those after this name.
    pub after: Option<String>,
    /// Stream what changes after the first answer.
    pub watch: bool,
}

/// A page of services, ordered by name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServicePage {
    /// The revision of the registry that it shows.
    pub revision: u64,
    /// The services.
    pub services: Vec<Service>,
    /// Give this as `after` for the next page; nothing when this is the last.
    pub next: Option<String>,
}

/// A change that a watch reports: one JSON object a line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ServiceEvent {
    /// The service is as it is here.
    Set {
        /// The service.
        service: Service,
    },
    /// The service is no more.
    Removed {
        /// Its name.
        name: String,
    },
    /// Everything that exists has been told; what follows are changes.
    Synced {
        /// The revision.
        revision: u64,
    },
}

/// A service wherever it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// `SERVICE.NAMESPACE`
    pub name: String,
    /// Who offers it, nearest first.
    pub offers: Vec<Offer>,
}

/// One cluster's offer of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The cluster.
    pub cluster: String,
    /// Its region.
    pub region: String,
    /// The zones that endpoints run in.
    pub zones: Vec<String>,
    /// `80/tcp` and so on.
    pub ports: Vec<String>,
    /// Endpoints that take new requests.
    pub healthy: u32,
    /// Endpoints in all.
    pub total: u32,
    /// `local` or `imported`.
    pub origin: String,
    /// To whom it is exported, if it is local: `*` stands for every linked cluster.
    pub exported_to: Vec<String>,
    /// The SPIFFE IDs that may serve it.
    pub identities: Vec<String>,
    /// For how long the link it came over has been silent, in seconds.
    pub stale_for: Option<u64>,
    /// Endpoints that are known here; for an imported service those in use.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The instance.
    pub workload: String,
    /// Its region.
    pub region: String,
    /// Its zone.
    pub zone: String,
    /// `healthy`, `draining` or `unhealthy`.
    pub health: String,
    /// Its weight.
    pub weight: u16,
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
    /// `up`, `stale` or `down`.
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
