//! `causeway-ctl/1`: between a sidecar and its gateways.
//!
//! The sidecar opens one bidirectional stream and both sides write frames on it for as long as the connection lives. The
//! first frame is [`Hello`], answered by [`Welcome`]. A connection without a certificate may send [`Join`] only; one with
//! an SVID may [`Attach`] (which gives it the workload id and keys of this start), [`Renew`], and, over the overlay, register and
//! subscribe.

use crate::codec::messages;
use crate::view::{BundleView, CidSecret, ProbeSecret, Refusal, ServiceView, VersionInfo};
use causeway_model::{
    ClusterFacts, ClusterId, GatewayFacts, Health, Locality, NodeId, PortSet, Revision, ServiceName,
    TrustDomain, Vip, VipName, WorkloadId,
};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The most services one workload may serve.
pub const MAX_SERVED: usize = 64;
/// The most services one sidecar may subscribe to.
pub const MAX_SUBSCRIPTIONS: usize = 4096;
/// The most trust bundles that a gateway tells of: that of its cluster and those of all links.
pub const MAX_BUNDLES: usize = 1024;
/// The most instances one sidecar may watch.
pub const MAX_WATCHED: usize = 65_536;
/// The most questions for virtual addresses of one sidecar that a gateway holds while the registry allocates them; further ones are
/// refused as `overloaded`.
pub const MAX_VIP_ASKS: usize = 256;

/// The first frame of a sidecar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Its release.
    pub version: VersionInfo,
    /// Its instance, once it has one.
    pub workload: Option<WorkloadId>,
}

/// Joins with a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Join {
    /// Echoed in the answer.
    pub request: u32,
    /// The token's id.
    pub token: [u8; 8],
    /// [`crate::token::join_proof`] over the TLS session's exporter.
    pub proof: [u8; 32],
    /// A PKCS #10 request (RFC 2986, DER) with the sidecar's public key.
    pub csr: Vec<u8>,
}

/// Asks for a new SVID of the same identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Renew {
    /// Echoed in the answer.
    pub request: u32,
    /// A PKCS #10 request (RFC 2986, DER).
    pub csr: Vec<u8>,
}

/// Asks for the workload id and keys of this start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attach {
    /// Echoed in the answer.
    pub request: u32,
}

/// A service that a workload serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServedService {
    /// The service.
    pub name: ServiceName,
    /// Its ports: all that the service has, or the registration is refused.
    pub ports: PortSet,
    /// Whether it takes new requests.
    pub health: Health,
}

/// Registers this workload, or replaces its registration. It lasts as long as the control connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Register {
    /// Echoed in the answer.
    pub request: u32,
    /// What it serves; at most [`MAX_SERVED`].
    pub services: Vec<ServedService>,
    /// Where it runs; `None` means where the gateway runs.
    pub locality: Option<Locality>,
    /// Its share of the load, 1 to 1000.
    pub weight: u16,
    /// Where sidecars of its cluster may reach it directly; at most 8.
    pub overlay: Vec<SocketAddr>,
}

/// Reports the health of a served service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportHealth {
    /// The service.
    pub service: ServiceName,
    /// Whether it takes new requests.
    pub health: Health,
}

/// The services this sidecar uses, all of them: replaces what it said before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subscribe {
    /// At most [`MAX_SUBSCRIPTIONS`].
    pub services: Vec<ServiceName>,
}

/// The instances this sidecar is connected to, all of them: replaces what it said before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchInstances {
    /// At most [`MAX_WATCHED`].
    pub instances: Vec<(ClusterId, WorkloadId)>,
}

/// Whom this sidecar trusts and by whom it is signed: what a rotation of roots waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrustReport {
    /// The revision of the newest [`Bundles`] that it has taken.
    pub bundles: Revision,
    /// The first 8 bytes of SHA-256 of the root that its SVID chains to.
    pub root: [u8; 8],
}

/// Asks for the virtual address of a name, which is allocated if it has none. Refused as `service-unknown` when neither this cluster has
/// the service nor a linked one offers it (a pinned name: when that very cluster does not), as `vip-exhausted` when there is none left,
/// and with the reasons of every change when the registry cannot allocate it now (`no-quorum`, `timeout`, `not-ready`, `overloaded`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskVip {
    /// Echoed in the answer.
    pub request: u32,
    /// The name.
    pub name: VipName,
}

/// Asks for the name that a virtual address stands for: an application may connect to one that it learned before its sidecar was
/// started again. Refused as `vip-unknown` when no name was given it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindVip {
    /// Echoed in the answer.
    pub request: u32,
    /// The address.
    pub vip: Vip,
}

/// This workload stops now: it is gone at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Goodbye {}

messages! {
    /// What a sidecar says to a gateway.
    ToGateway {
        /// The first frame.
        1 = Hello(Hello),
        /// Joins with a token.
        2 = Join(Join),
        /// Asks for a new SVID.
        3 = Renew(Renew),
        /// Asks for workload id and keys.
        4 = Attach(Attach),
        /// Registers the workload.
        5 = Register(Register),
        /// Reports health.
        6 = ReportHealth(ReportHealth),
        /// Says which services it uses.
        7 = Subscribe(Subscribe),
        /// Says which instances it is connected to.
        8 = WatchInstances(WatchInstances),
        /// Says goodbye.
        10 = Goodbye(Goodbye),
        /// Says which trust bundles it has taken.
        11 = Trust(TrustReport),
        /// Asks for the virtual address of a name.
        12 = AskVip(AskVip),
        /// Asks for the name of a virtual address.
        13 = FindVip(FindVip),
    }
}

/// The first frame of a gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// Its release.
    pub version: VersionInfo,
    /// Its cluster.
    pub cluster: ClusterFacts,
    /// Its node id.
    pub node: NodeId,
    /// Its clock, in seconds since 1970, so that a sidecar can tell that its own is wrong.
    pub unix_time: u64,
}

/// The answer to [`Join`] and [`Renew`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Issued {
    /// The request.
    pub request: u32,
    /// The SVID's certificate chain (DER), leaf first, without the root.
    pub chain: Vec<Vec<u8>>,
    /// The cluster's trust bundle.
    pub bundle: BundleView,
}

/// The answer to [`Attach`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attached {
    /// The request.
    pub request: u32,
    /// The instance's id.
    pub workload: WorkloadId,
    /// The keys that mint and open WORKLOAD ids of this cluster.
    pub cid_keys: Vec<CidSecret>,
    /// The key of this workload's probes, already derived for it ([`crate::probe::workload_key`]).
    pub probe_key: ProbeSecret,
    /// The cluster's gateways.
    pub gateways: Vec<GatewayFacts>,
}

/// The registration stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registered {
    /// The request.
    pub request: u32,
}

/// The cluster's gateways, all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gateways {
    /// The gateways.
    pub gateways: Vec<GatewayFacts>,
}

/// A trust bundle, of the own cluster or of a linked one, that is new or differs from what this gateway said of that trust domain
/// before. It counts from the next [`Bundles`] on. Each has a message of its own, because many links, or a few whose peers revoke
/// much, would fill one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// The bundle.
    pub bundle: BundleView,
}

/// Whom to trust: the bundles of these trust domains as they were told by then, and no others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bundles {
    /// The revision of the registry that they are of: older ones do not replace newer ones, whichever gateway tells them.
    pub revision: Revision,
    /// The trust domains of the own cluster and of every linked one; at most [`MAX_BUNDLES`].
    pub domains: Vec<TrustDomain>,
}

/// To which trust domains each service of the cluster that this workload serves is exported: replaces what was said before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportedTo {
    /// The revision of the registry that this is of, as in [`Bundles`].
    pub revision: Revision,
    /// The services and the trust domains that may call them.
    pub services: Vec<(ServiceName, Vec<TrustDomain>)>,
}

/// Instances that are gone, of those this sidecar watches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstancesGone {
    /// The instances.
    pub instances: Vec<(ClusterId, WorkloadId)>,
}

/// The cluster's keys changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Keys {
    /// The keys that mint and open WORKLOAD ids.
    pub cid_keys: Vec<CidSecret>,
    /// The key of this workload's probes.
    pub probe_key: ProbeSecret,
}

/// The cluster signs with another root now: an SVID of an older one is to be renewed, at a random time within the given one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RenewNow {
    /// The first 8 bytes of SHA-256 of the root that signs.
    pub root: [u8; 8],
    /// The time, in milliseconds.
    pub within_ms: u32,
}

/// The answer to [`AskVip`] and [`FindVip`]. It holds for ever, in the whole cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VipIs {
    /// The request.
    pub request: u32,
    /// The name.
    pub name: VipName,
    /// Its virtual address.
    pub vip: Vip,
}

/// This gateway is about to stop: attach to another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Draining {}

messages! {
    /// What a gateway says to a sidecar.
    ToSidecar {
        /// The first frame.
        1 = Welcome(Welcome),
        /// An SVID.
        2 = Issued(Issued),
        /// Workload id and keys.
        3 = Attached(Attached),
        /// The registration stands.
        4 = Registered(Registered),
        /// A request was refused.
        5 = Refused(Refusal),
        /// The cluster's gateways.
        6 = Gateways(Gateways),
        /// Which trust bundles count.
        7 = Bundles(Bundles),
        /// A service in use, as it is now: replaces what was said of it before.
        8 = Service(ServiceView),
        /// To whom the cluster's services are exported.
        9 = ExportedTo(ExportedTo),
        /// Instances that are gone.
        10 = InstancesGone(InstancesGone),
        /// New keys.
        11 = Keys(Keys),
        /// The gateway is about to stop.
        12 = Draining(Draining),
        /// An SVID of an older root is to be renewed.
        13 = RenewNow(RenewNow),
        /// A trust bundle.
        14 = Bundle(Bundle),
        /// A virtual address and its name.
        15 = VipIs(VipIs),
    }
}
