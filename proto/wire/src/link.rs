//! `causeway-link/1`: between gateways of linked clusters.
//!
//! The dialling gateway opens one bidirectional stream and both sides write frames on it for as long as the connection
//! lives. A connection without a certificate may send [`Pair`] only: it makes a new link out of a token. On every other
//! connection both certificates are gateways' of linked trust domains, and both sides say [`LinkHello`] first and then the same things:
//! facts, exports, endpoints of services in use, instances that are gone, who hears whom, and whither packets may pass through. A [`Heartbeat`] may also come as a
//! QUIC datagram (RFC 9221) that holds its frame and nothing else.

use crate::codec::messages;
use crate::view::{BundleView, EndpointView, ExportSummary, Refusal, VersionInfo};
use causeway_model::{
    ClusterFacts, ClusterId, Epoch, GatewayFacts, NodeId, Revision, ServiceHandle, WorkloadId,
};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::marker::PhantomData;

/// The most exports in one [`Exports`].
pub const MAX_EXPORTS_PER_FRAME: usize = 512;
/// The most reports in one [`PairReports`]: of the directions between 16 gateways of each cluster.
pub const MAX_PAIR_REPORTS: usize = 256;
/// The most paths in one [`Routes`].
pub const MAX_PATHS: usize = 256;
/// The most clusters in one [`TransitPath`]: those that are passed through ([`crate::envelope::MAX_HOPS`]), and the destination.
pub const MAX_PATH: usize = crate::envelope::MAX_HOPS as usize + 1;
/// The longest frame of a [`Heartbeat`], in bytes.
pub const MAX_HEARTBEAT_FRAME: usize = 64;
/// The most exports that are taken from one peer, unless configured otherwise.
pub const DEFAULT_MAX_IMPORTS: usize = 10_000;

/// What one cluster tells the other when a link is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Introduction {
    /// The cluster.
    pub cluster: ClusterFacts,
    /// Its trust bundle.
    pub bundle: BundleView,
    /// Its gateways.
    pub gateways: Vec<GatewayFacts>,
}

/// Makes a link out of a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The token's id.
    pub token: [u8; 8],
    /// [`crate::token::pair_proof`] of the accepting side over the TLS session's exporter and its introduction.
    pub proof: [u8; 32],
    /// Who accepts.
    pub introduction: Introduction,
}

/// The link is made on the inviting side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// [`crate::token::pair_proof`] of the inviting side over the TLS session's exporter and its introduction.
    pub proof: [u8; 32],
    /// Who invited.
    pub introduction: Introduction,
    /// The link's key, from which the keys of its probes are derived.
    pub key: [u8; 32],
}

/// The first frame of each side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkHello {
    /// The speaker's release.
    pub version: VersionInfo,
    /// The speaker's cluster.
    pub cluster: ClusterFacts,
    /// The speaker.
    pub node: NodeId,
    /// The speaker's clock, in seconds since 1970.
    pub unix_time: u64,
    /// Where the speaker's copy of the listener's exports ends: the listener goes on from there if it can.
    pub have: Option<(Epoch, Revision)>,
}

/// The speaker's gateways and trust bundle, as they are now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The registry's revision: an older one than was seen is ignored.
    pub revision: Revision,
    /// Its trust bundle.
    pub bundle: BundleView,
    /// Its gateways.
    pub gateways: Vec<GatewayFacts>,
    /// Whether its operator has paused the link: it shares nothing for now.
    pub paused: bool,
}

/// Everybody in the speaker's cluster has taken the facts that the listener's cluster told at this revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FactsTaken {
    /// The listener's revision.
    pub revision: Revision,
}

/// Exports that changed, or with `snapshot` a part of all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exports {
    /// The generation of the numbering: it changes when the speaker restarts.
    pub epoch: Epoch,
    /// Where this delta starts: the revision it builds on. Of no meaning in a snapshot.
    pub from: Revision,
    /// Where it ends.
    pub to: Revision,
    /// Set in the parts of a snapshot: the first part replaces everything.
    pub snapshot: Option<SnapshotPart>,
    /// Exports that are new or changed; at most [`MAX_EXPORTS_PER_FRAME`].
    pub upserts: Vec<ExportSummary>,
    /// Exports that are no more.
    pub removed: Vec<ServiceHandle>,
}

/// Which part of a snapshot a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPart {
    /// Counts from 0.
    pub index: u32,
    /// No part follows.
    pub last: bool,
}

/// What the speaker's exports add up to, sent every few seconds; it also says that the speaker lives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportsDigest {
    /// The generation of the numbering.
    pub epoch: Epoch,
    /// The revision.
    pub revision: Revision,
    /// How many exports.
    pub count: u32,
    /// A hash over all of them in order of their handles.
    pub digest: u64,
}

/// The speaker's copy differs: send everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SendSnapshot {}

/// The speaker's copy is what a digest of the listener said of this position: deltas may go on from there, without a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HaveExports {
    /// The generation of the numbering.
    pub epoch: Epoch,
    /// The revision.
    pub revision: Revision,
}

/// The speaker's workloads use these services of the listener, all of them: replaces what it said before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UseServices {
    /// The handles, at most 4096.
    pub handles: Vec<ServiceHandle>,
}

/// Endpoints of a service in use, as they are now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoints {
    /// The service.
    pub handle: ServiceHandle,
    /// At most [`crate::view::MAX_ENDPOINTS`].
    pub endpoints: Vec<EndpointView>,
}

/// Instances of the listener's cluster that the speaker's workloads are connected to, all of them: replaces what it said
/// before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchPeerInstances {
    /// The instances, at most 65536.
    pub instances: Vec<WorkloadId>,
}

/// Instances of the speaker's cluster that are gone, of those the listener watches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerInstancesGone {
    /// The instances.
    pub instances: Vec<WorkloadId>,
}

/// Said twice a second, and at once when `hearing` changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Counts the speaker's heartbeats to the listener from 1, over all connections of the two.
    pub seq: u64,
    /// The speaker's clock, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The highest number that the speaker heard of the listener; 0 before the first.
    pub heard: u64,
    /// How many it heard.
    pub received: u64,
    /// How long ago the highest one arrived, or the connection was made if that is later, in milliseconds.
    pub heard_ago_ms: u32,
    /// Whether it hears the listener: 0 it does, 1 it does not and knows no more, 2 it does not and is heard, 3 nothing arrives
    /// either way. Any other is as good as 1.
    pub hearing: u8,
}

/// A gateway of either of two linked clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairEnd {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its number there.
    pub node: NodeId,
}

/// What the listener `to` says of the direction from `from`, as it is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairReport {
    /// Who speaks in this direction.
    pub from: PairEnd,
    /// Who listens, and says so.
    pub to: PairEnd,
    /// The clock of `to` when it said so, in milliseconds since 1970.
    pub unix_ms: u64,
    /// How long ago it heard something, in milliseconds.
    pub heard_ago_ms: u32,
    /// How long ago it said so, in milliseconds.
    pub said_ago_ms: u32,
    /// What it makes of it, as in [`Heartbeat::hearing`].
    pub hearing: u8,
}

/// Which directions between the gateways of two linked clusters work, as far as the speaker knows. A linked cluster has a say of
/// those that lead to it only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairReports {
    /// At most [`MAX_PAIR_REPORTS`].
    pub reports: Vec<PairReport>,
}

/// How the speaker reaches a cluster through others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TransitPath {
    /// The clusters in the order in which a packet enters them: the speaker's own first, the destination last; 2 to [`MAX_PATH`], each
    /// once. More of them are not read.
    #[serde(deserialize_with = "at_most::<_, _, MAX_PATH>")]
    pub clusters: Vec<ClusterId>,
}

/// Whither the speaker forwards packets of the listener: replaces what it said before. It is not said before transit is on for the link
/// at the speaker's end, and is worth nothing once the connection has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routes {
    /// Whether transit is on at the speaker's end of the link. If not, it takes no envelope over it.
    pub transit: bool,
    /// The best path to each cluster, at most [`MAX_PATHS`]. More of them are not read.
    #[serde(deserialize_with = "at_most::<_, _, MAX_PATHS>")]
    pub paths: Vec<TransitPath>,
}

/// Reads a list of so many elements, and takes a longer one for malformed before it reads more.
pub(crate) fn at_most<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MOST: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct AtMost<T, const MOST: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for AtMost<T, MOST> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MOST} elements")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = elements.next_element()? {
                if list.len() == MOST {
                    return Err(A::Error::invalid_length(MOST + 1, &self));
                }
                list.push(element);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(AtMost::<T, MOST>(PhantomData))
}

/// The speaker's cluster removed the link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unlink {}

messages! {
    /// What gateways of linked clusters say to each other.
    LinkMessage {
        /// Makes a link out of a token.
        1 = Pair(Pair),
        /// The link is made.
        2 = Paired(Paired),
        /// A request was refused.
        3 = Refused(Refusal),
        /// The first frame on an established link.
        4 = Hello(LinkHello),
        /// Gateways and trust bundle.
        5 = Facts(Facts),
        /// Exports that changed.
        6 = Exports(Exports),
        /// What the exports add up to.
        7 = Digest(ExportsDigest),
        /// Asks for everything.
        8 = SendSnapshot(SendSnapshot),
        /// Which services are in use.
        9 = UseServices(UseServices),
        /// Endpoints of a service in use.
        10 = Endpoints(Endpoints),
        /// Which instances are watched.
        11 = WatchInstances(WatchPeerInstances),
        /// Which of them are gone.
        12 = InstancesGone(PeerInstancesGone),
        /// The link is removed.
        13 = Unlink(Unlink),
        /// Everybody here has your roots.
        14 = FactsTaken(FactsTaken),
        /// The speaker lives, and hears the listener or does not.
        15 = Heartbeat(Heartbeat),
        /// Which directions work.
        16 = PairReports(PairReports),
        /// Whither packets of the listener are forwarded.
        17 = Routes(Routes),
        /// The listener's digest is of what the speaker has.
        18 = HaveExports(HaveExports),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{from_slice, to_vec};

    fn routes(paths: usize, clusters: usize) -> Routes {
        let clusters = (1..).map_while(ClusterId::new).take(clusters).collect();
        Routes { transit: true, paths: vec![TransitPath { clusters }; paths] }
    }

    #[test]
    fn more_paths_and_longer_ones_than_there_may_be_are_not_read() {
        let read = |routes: &Routes| from_slice::<Routes>(&to_vec(routes).unwrap());
        for (paths, clusters) in [(0, 0), (3, 0), (MAX_PATHS, MAX_PATH)] {
            let said = routes(paths, clusters);
            assert_eq!(read(&said).unwrap(), said);
        }
        for (paths, clusters) in [(MAX_PATHS + 1, 1), (1, MAX_PATH + 1), (2, 5000), (5000, 2)] {
            let error = read(&routes(paths, clusters)).unwrap_err();
            assert!(error.to_string().contains("at most"), "{paths} {clusters}: {error}");
        }
    }
}
