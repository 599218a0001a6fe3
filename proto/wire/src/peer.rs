//! `causeway-raft/1`: between the gateways of one cluster.
//!
//! Each call is a bidirectional stream of its own: one [`Call`] and one [`Reply`] or [`Refusal`]. Liveness travels on one
//! long stream per connection as [`Presence`] frames. What calls and presence carry is encoded by the registry's crates with
//! [`crate::codec`].
//!
//! A gateway that joins has no certificate yet: on its first connection it may send [`JoinGateway`] only.

use crate::codec::messages;
use crate::link::{PairReports, at_most};
use crate::view::{BundleView, Refusal, VersionInfo};
use causeway_model::{
    ClusterFacts, ClusterId, GatewayFacts, GatewayRole, HostPort, Locality, NodeId, Revision,
};
use serde::{Deserialize, Serialize};

/// The most clusters in one [`Reaches`].
pub const MAX_REACHED: usize = 1024;

/// Which method of the registry a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Method {
    /// Raft: append entries.
    Append,
    /// Raft: request a vote.
    Vote,
    /// Raft: install a snapshot, one chunk.
    Snapshot,
    /// A command for the leader to propose.
    Propose,
    /// Adds a node to the group as a learner, or removes one.
    AddLearner,
    /// The leader's commit index, for reads that must be current.
    ReadIndex,
    /// The leader hands over: stand for election at once.
    Elect,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Its argument.
    pub body: Vec<u8>,
}

/// The answer to a [`Call`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The result.
    pub body: Vec<u8>,
}

/// Liveness.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Presence {
    /// The encoded message.
    pub body: Vec<u8>,
}

/// The first frame of each side on the long stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerHello {
    /// The speaker's release.
    pub version: VersionInfo,
    /// The speaker.
    pub node: NodeId,
    /// The numbers of the catalog commands that the speaker knows.
    pub commands: Vec<u16>,
}

/// How the speaker is doing, said every half second on the long stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayStatus {
    /// The speaker's release.
    pub release: String,
    /// How far its replica of the registry is.
    pub revision: Revision,
    /// The first 8 bytes of SHA-256 of the root that its SVID chains to.
    pub root: [u8; 8],
    /// Whether it may be sent work: it has its tables, is not stopping, and can write what it must keep.
    pub ready: bool,
    /// Whether it is being taken out of use.
    pub draining: bool,
    /// Control connections of sidecars.
    pub attached: u32,
    /// Packets that it forwarded since it started.
    pub packets: u64,
    /// For how long it has been running, in seconds.
    pub up_secs: u64,
    /// The least revision of the trust bundles that the sidecars attached to it have taken; nothing without sidecars.
    pub least_bundle: Option<Revision>,
    /// The roots that SVIDs of sidecars attached to it chain to, as in `root`; at most 16.
    pub roots: Vec<[u8; 8]>,
    /// Where its admin API listens, if it serves one.
    pub admin: Option<HostPort>,
    /// The speaker's clock, in seconds since 1970.
    pub unix_time: u64,
}

/// The linked clusters that the speaker reaches, directly or through others: it sends on what the listener's sidecars have for them.
/// Said every half second on the long stream; replaces what it said before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaches {
    /// At most [`MAX_REACHED`]. More of them are not read.
    #[serde(deserialize_with = "at_most::<_, _, MAX_REACHED>")]
    pub clusters: Vec<ClusterId>,
}

/// Joins a gateway with a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JoinGateway {
    /// The token's id.
    pub token: [u8; 8],
    /// [`crate::token::join_proof`] over the TLS session's exporter.
    pub proof: [u8; 32],
    /// A PKCS #10 request (RFC 2986, DER) with the newcomer's public key.
    pub csr: Vec<u8>,
    /// What it is to do; the token must allow it.
    pub role: GatewayRole,
    /// Where it runs.
    pub locality: Locality,
    /// Where its own cluster reaches it.
    pub cluster_addrs: Vec<HostPort>,
    /// Where linked clusters reach it.
    pub link_addrs: Vec<HostPort>,
}

/// The newcomer is a gateway of the cluster.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct GatewayJoined {
    /// The cluster.
    pub cluster: ClusterFacts,
    /// The newcomer's node id.
    pub node: NodeId,
    /// Its certificate chain (DER), leaf first, without the root.
    pub chain: Vec<Vec<u8>>,
    /// The cluster's trust bundle.
    pub bundle: BundleView,
    /// The gateways it joins.
    pub gateways: Vec<GatewayFacts>,
    /// The key that seals the certificate authority's key, in hexadecimal; only for a role that signs.
    pub seal_key: Option<String>,
}

impl std::fmt::Debug for GatewayJoined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GatewayJoined(node {} of {})", self.node, self.cluster.name)
    }
}

/// Asks for a new SVID of the caller's own identity, on an authenticated connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RenewGateway {
    /// A PKCS #10 request (RFC 2986, DER).
    pub csr: Vec<u8>,
}

/// The answer to [`RenewGateway`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatewayRenewed {
    /// The certificate chain (DER), leaf first, without the root.
    pub chain: Vec<Vec<u8>>,
}

/// A forwarder's addresses or place changed: the gateway that hears it records it, as the forwarder may not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateFacts {
    /// The caller.
    pub facts: GatewayFacts,
}

/// The answer to [`UpdateFacts`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FactsUpdated {}

messages! {
    /// What gateways of one cluster say to each other.
    PeerMessage {
        /// A request.
        1 = Call(Call),
        /// Its answer.
        2 = Reply(Reply),
        /// It was refused.
        3 = Refused(Refusal),
        /// The first frame of a long stream.
        4 = Hello(PeerHello),
        /// Liveness.
        5 = Presence(Presence),
        /// Joins with a token.
        6 = Join(JoinGateway),
        /// The newcomer is in.
        7 = Joined(GatewayJoined),
        /// Asks for a new SVID.
        8 = Renew(RenewGateway),
        /// A new SVID.
        9 = Renewed(GatewayRenewed),
        /// A forwarder's addresses changed.
        10 = UpdateFacts(UpdateFacts),
        /// They are recorded.
        11 = FactsUpdated(FactsUpdated),
        /// How the speaker is doing.
        12 = Status(GatewayStatus),
        /// Which directions between gateways of this cluster and of a linked one work, said twice a second on the long stream.
        13 = PairReports(PairReports),
        /// The linked clusters that the speaker reaches.
        14 = Reaches(Reaches),
    }
}
