//! Connection IDs: 20 bytes in every packet of the mesh, so that short headers parse without state.
//!
//! ```text
//!  0        1         4                        20
//!  +--------+---------+-------------------------+
//!  | kind,  | cluster | body, 16 bytes          |
//!  | epoch  | id      |                         |
//!  +--------+---------+-------------------------+
//! ```
//!
//! The body of a WORKLOAD id is one AES-128 block of workload id and nonce under the cluster's key of that epoch (the
//! single-pass encryption of QUIC-LB, draft-ietf-quic-load-balancers section 5.4.1). It hides the workload from observers; it
//! does not authenticate: a made-up id decodes to a workload that does not exist.
//!
//! A client's first flight carries an ENDPOINT id: the tag that the endpoint's cluster gave out, and a random half of the
//! client's own. It cannot be a WORKLOAD id, which only the endpoint's cluster can mint: two clients that were given the same
//! one would reach one connection of the server (QUIC takes first flights with one destination for one connection).

use aes::Aes128;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use causeway_model::{ClusterId, Epoch, NodeId, ServiceHandle, WorkloadId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The length of every connection ID in the mesh, in bytes.
pub const CID_LEN: usize = 20;

/// What a connection ID names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CidKind {
    /// A workload, hidden under its cluster's key.
    Workload,
    /// A service, by the handle its cluster exports it under.
    Service,
    /// A gateway of a cluster, or any of them.
    Gateway,
    /// An endpoint of a service, by the opaque tag that its cluster gave out for it.
    Endpoint,
}

/// A connection ID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cid(pub [u8; CID_LEN]);

impl Cid {
    const WORKLOAD: u8 = 0x10;
    const SERVICE: u8 = 0x20;
    const GATEWAY: u8 = 0x30;
    const ENDPOINT: u8 = 0x40;

    fn new(first: u8, cluster: ClusterId, head: u64, tail: u64) -> Self {
        let mut bytes = [0; CID_LEN];
        bytes[..4].copy_from_slice(&cluster.get().to_be_bytes());
        bytes[0] = first;
        bytes[4..12].copy_from_slice(&head.to_be_bytes());
        bytes[12..].copy_from_slice(&tail.to_be_bytes());
        Self(bytes)
    }

    /// The SERVICE id of `handle` in `cluster`; `random` picks the endpoint and must differ between connections.
    pub fn service(cluster: ClusterId, handle: ServiceHandle, random: u64) -> Self {
        Self::new(Self::SERVICE, cluster, handle.0, random)
    }

    /// The GATEWAY id of `node` in `cluster`; [`NodeId::ANY`] stands for any of its gateways.
    pub fn gateway(cluster: ClusterId, node: NodeId, random: u64) -> Self {
        Self::new(Self::GATEWAY, cluster, node.0, random)
    }

    /// The ENDPOINT id of the endpoint that `key`'s cluster calls `tag` in `epoch`; `random` must differ between connections.
    pub fn endpoint(cluster: ClusterId, epoch: Epoch, tag: u64, random: u64) -> Self {
        Self::new(Self::ENDPOINT | epoch.low_bits(), cluster, tag, random)
    }

    /// The same id with another random half: what a client does for each connection to an endpoint, because a server takes
    /// two first flights with one destination for the same connection.
    #[must_use]
    pub fn with_random(mut self, random: u64) -> Self {
        self.0[12..].copy_from_slice(&random.to_be_bytes());
        self
    }

    /// A connection ID out of the bytes of a packet; any 20 bytes are one.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// What the id names; `None` for a kind that the mesh does not know.
    #[inline]
    pub fn kind(&self) -> Option<CidKind> {
        match self.0[0] & 0xf0 {
            Self::WORKLOAD => Some(CidKind::Workload),
            Self::SERVICE => Some(CidKind::Service),
            Self::GATEWAY => Some(CidKind::Gateway),
            Self::ENDPOINT => Some(CidKind::Endpoint),
            _ => None,
        }
    }

    /// The low bits of the epoch whose key hides the workload in a WORKLOAD or ENDPOINT id; 0 in the other kinds.
    #[inline]
    pub fn epoch_bits(&self) -> u8 {
        self.0[0] & 0x0f
    }

    /// The cluster in which the id has a meaning; `None` for 0, which no cluster has.
    #[inline]
    pub fn cluster(&self) -> Option<ClusterId> {
        ClusterId::new(u32::from_be_bytes([0, self.0[1], self.0[2], self.0[3]]))
    }

    #[inline]
    fn half(&self, at: usize) -> u64 {
        let mut half = [0; 8];
        half.copy_from_slice(&self.0[at..at + 8]);
        u64::from_be_bytes(half)
    }

    /// The handle in a SERVICE id.
    #[inline]
    pub fn handle(&self) -> Option<ServiceHandle> {
        (self.kind() == Some(CidKind::Service)).then(|| ServiceHandle(self.half(4)))
    }

    /// The node in a GATEWAY id.
    #[inline]
    pub fn node(&self) -> Option<NodeId> {
        (self.kind() == Some(CidKind::Gateway)).then(|| NodeId(self.half(4)))
    }

    /// The tag in an ENDPOINT id.
    #[inline]
    pub fn tag(&self) -> Option<u64> {
        (self.kind() == Some(CidKind::Endpoint)).then(|| self.half(4))
    }

    /// The random half of a SERVICE, GATEWAY or ENDPOINT id.
    #[inline]
    pub fn random(&self) -> u64 {
        self.half(12)
    }

    /// A well-mixed hash of the body, by which connections are spread over gateways, links and source ports.
    #[inline]
    pub fn spread(&self) -> u64 {
        mix(self.half(4) ^ self.half(12).rotate_left(32))
    }
}

/// A bijective mixer of 64 bits (the finalizer of MurmurHash3): every input bit changes half of the output bits.
#[inline]
pub const fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// The weight of `member` for `key` in rendezvous (highest random weight) hashing: the member with the greatest wins, and
/// only the keys of a member that leaves move.
#[inline]
pub const fn rendezvous(key: u64, member: u64) -> u64 {
    mix(key ^ mix(member ^ 0x9e37_79b9_7f4a_7c15))
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cid({self})")
    }
}

/// A cluster's key for WORKLOAD ids, of one epoch.
#[derive(Clone)]
pub struct CidKey {
    epoch: Epoch,
    cipher: Aes128,
}

impl CidKey {
    /// The key `secret` of `epoch`.
    pub fn new(epoch: Epoch, secret: [u8; 16]) -> Self {
        Self { epoch, cipher: Aes128::new(&secret.into()) }
    }

    /// The epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// A WORKLOAD id of `workload` in `cluster`; `nonce` must not repeat for one workload.
    pub fn mint(&self, cluster: ClusterId, workload: WorkloadId, nonce: u64) -> Cid {
        let mut cid = Cid::new(Cid::WORKLOAD | self.epoch.low_bits(), cluster, workload.0, nonce);
        let mut block = [0; 16];
        block.copy_from_slice(&cid.0[4..]);
        self.cipher.encrypt_block((&mut block).into());
        cid.0[4..].copy_from_slice(&block);
        cid
    }

    /// The tag by which ENDPOINT ids name `workload` while this key is in use: half of an AES block, so it tells
    /// nothing of the workload and cannot be guessed, and every gateway of the cluster computes the same.
    pub fn endpoint_tag(&self, workload: WorkloadId) -> u64 {
        let mut block = [0xff; 16];
        block[..8].copy_from_slice(&workload.0.to_be_bytes());
        self.cipher.encrypt_block((&mut block).into());
        let mut tag = [0; 8];
        tag.copy_from_slice(&block[..8]);
        u64::from_be_bytes(tag)
    }

    #[inline]
    fn open(&self, cid: &Cid) -> WorkloadId {
        let mut block = [0; 16];
        block.copy_from_slice(&cid.0[4..]);
        self.cipher.decrypt_block((&mut block).into());
        let mut id = [0; 8];
        id.copy_from_slice(&block[..8]);
        WorkloadId(u64::from_be_bytes(id))
    }
}

impl fmt::Debug for CidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CidKey(epoch {}, ***)", self.epoch)
    }
}

/// The keys of a cluster that are in use: at most one for each value of an epoch's low bits.
#[derive(Clone, Debug)]
pub struct CidKeys {
    cluster: ClusterId,
    slots: [Option<CidKey>; 16],
    newest: Option<Epoch>,
}

impl CidKeys {
    /// The keys of `cluster`. Where two epochs share their low bits the newer one counts.
    pub fn new(cluster: ClusterId, keys: impl IntoIterator<Item = (Epoch, [u8; 16])>) -> Self {
        let mut all = Self { cluster, slots: Default::default(), newest: None };
        for (epoch, secret) in keys {
            let slot = &mut all.slots[usize::from(epoch.low_bits())];
            if slot.as_ref().is_none_or(|key| key.epoch < epoch) {
                *slot = Some(CidKey::new(epoch, secret));
            }
            all.newest = all.newest.max(Some(epoch));
        }
        all
    }

    /// The cluster whose keys these are.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The newest key, with which ids are minted; `None` when there is none at all.
    pub fn newest(&self) -> Option<&CidKey> {
        self.newest.and_then(|epoch| self.slots[usize::from(epoch.low_bits())].as_ref())
    }

    /// A WORKLOAD id of `workload` under the newest key.
    pub fn mint(&self, workload: WorkloadId, nonce: u64) -> Option<Cid> {
        self.newest().map(|key| key.mint(self.cluster, workload, nonce))
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &CidKey> {
        self.slots.iter().flatten()
    }

    /// The workload that `cid` names, when it is a WORKLOAD id of this cluster under a key that is in use. The workload
    /// need not exist.
    #[inline]
    pub fn open(&self, cid: &Cid) -> Option<WorkloadId> {
        if cid.kind() != Some(CidKind::Workload) || cid.cluster() != Some(self.cluster) {
            return None;
        }
        self.slots[usize::from(cid.epoch_bits())].as_ref().map(|key| key.open(cid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cluster(id: u32) -> ClusterId {
        ClusterId::new(id).unwrap()
    }

    proptest! {
        #[test]
        fn a_workload_id_opens_under_its_key_only(
            id in 1u32..=ClusterId::MAX, workload: u64, nonce: u64, key: [u8; 16], other: [u8; 16], epoch: u64,
        ) {
            prop_assume!(key != other);
            let keys = CidKeys::new(cluster(id), [(Epoch(epoch), key)]);
            let cid = keys.mint(WorkloadId(workload), nonce).unwrap();
            prop_assert_eq!(keys.open(&cid), Some(WorkloadId(workload)));
            prop_assert_eq!(cid.cluster(), Some(cluster(id)));
            let wrong = CidKeys::new(cluster(id), [(Epoch(epoch), other)]);
            prop_assert_ne!(wrong.open(&cid), Some(WorkloadId(workload)));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: [u8; CID_LEN]) {
            let cid = Cid(bytes);
            let _ = (cid.kind(), cid.cluster(), cid.handle(), cid.node(), cid.spread(), cid.to_string());
            let _ = CidKeys::new(cluster(1), [(Epoch(0), [7; 16])]).open(&cid);
        }
    }

    #[test]
    fn keys_of_two_epochs_are_open_at_once_and_the_newest_mints() {
        let keys = CidKeys::new(cluster(5), [(Epoch(1), [1; 16]), (Epoch(2), [2; 16])]);
        let old = CidKey::new(Epoch(1), [1; 16]).mint(cluster(5), WorkloadId(9), 1);
        assert_eq!(keys.open(&old), Some(WorkloadId(9)));
        assert_eq!(keys.mint(WorkloadId(9), 2).unwrap().epoch_bits(), 2);
        let dropped = CidKey::new(Epoch(0), [0; 16]).mint(cluster(5), WorkloadId(9), 1);
        assert_eq!(keys.open(&dropped), None);
        let foreign = CidKey::new(Epoch(1), [1; 16]).mint(cluster(6), WorkloadId(9), 1);
        assert_eq!(keys.open(&foreign), None);
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let cid =
            Cid::service(cluster(0x0a_0b0c), ServiceHandle(0x1122_3344_5566_7788), 0x99aa_bbcc_ddee_ff00);
        assert_eq!(cid.to_string(), "200a0b0c112233445566778899aabbccddeeff00");
        let cid = Cid::gateway(cluster(1), NodeId(2), 3);
        assert_eq!(cid.to_string(), "3000000100000000000000020000000000000003");
        assert_eq!((cid.node(), cid.random(), cid.handle()), (Some(NodeId(2)), 3, None));
        let cid = CidKey::new(Epoch(0x23), [0; 16]).mint(cluster(1), WorkloadId(0), 0);
        // AES-128 of the zero block under the zero key (FIPS 197 test vectors)
        assert_eq!(cid.to_string(), "1300000166e94bd4ef8a2c3b884cfa59ca342b2e");
    }
}
