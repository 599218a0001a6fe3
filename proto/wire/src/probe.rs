//! Probes: how a sidecar or gateway learns which gateways live, and how its source address is admitted.
//!
//! A probe and its answer are datagrams of [`PROBE_LEN`] bytes each, so answering amplifies nothing. Both carry a tag under a key
//! that only the two ends can derive ([`ProbeScope`] says which).
//!
//! ```text
//! probe   0x01 version scope epoch | cluster id (4) | sender (8) | sequence (8) | cookie (16) | flags (8) | tag (16)
//! answer  0x02 version scope state | interval ms (4) | responder (8) | sequence (8) | cookie (16) | zero (8) | tag (16)
//! ```

use crate::mac::{derive_key, mac_tag, verify_tag};
use causeway_model::{ClusterId, Epoch, NodeId, WorkloadId};

/// The length of a probe and of an answer, in bytes.
pub const PROBE_LEN: usize = 64;
const TAG_AT: usize = 48;
const PROBE: u8 = 0x01;
const ANSWER: u8 = 0x02;
const VERSION: u8 = 1;

/// Between whom a probe travels, and so under which key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeScope {
    /// A sidecar to a gateway of its cluster; [`workload_key`].
    Workload,
    /// A gateway to a gateway of its own cluster; [`gateway_key`].
    Sibling,
    /// A gateway to a gateway of a linked cluster; [`link_key`].
    Link,
    /// A sidecar to a sidecar of its own cluster; a key exported from their connection (RFC 8446 section 7.5).
    Direct,
}

impl ProbeScope {
    fn byte(self) -> u8 {
        match self {
            Self::Workload => 0,
            Self::Sibling => 1,
            Self::Link => 2,
            Self::Direct => 3,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Workload, Self::Sibling, Self::Link, Self::Direct]
            .into_iter()
            .find(|scope| scope.byte() == byte)
    }
}

/// The key of the probes of `workload`, out of its cluster's probe key.
pub fn workload_key(cluster_key: &[u8; 32], workload: WorkloadId) -> [u8; 32] {
    derive_key(cluster_key, "causeway probe workload", &workload.0.to_be_bytes())
}

/// The key of the probes of gateway `node` to its siblings, out of its cluster's probe key.
pub fn gateway_key(cluster_key: &[u8; 32], node: NodeId) -> [u8; 32] {
    derive_key(cluster_key, "causeway probe gateway", &node.0.to_be_bytes())
}

/// The key of the probes of gateway `node` of `cluster` over a link, out of the link's key.
pub fn link_key(link_key: &[u8; 32], cluster: ClusterId, node: NodeId) -> [u8; 32] {
    let mut context = [0; 12];
    context[..4].copy_from_slice(&cluster.get().to_be_bytes());
    context[4..].copy_from_slice(&node.0.to_be_bytes());
    derive_key(link_key, "causeway probe link", &context)
}

/// A probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Between whom it travels.
    pub scope: ProbeScope,
    /// The low bits of the epoch of the key; 0 where the key has no epoch.
    pub epoch_bits: u8,
    /// The sender's cluster.
    pub cluster: ClusterId,
    /// The sender: a workload id, or a node id in the scopes of gateways.
    pub sender: u64,
    /// Counts the sender's probes on this path.
    pub seq: u64,
    /// The cookie of the last answer from this responder to this source address; zeros before the first.
    pub cookie: [u8; 16],
    /// Whether packets go to this gateway now: it is told to expect the fast interval.
    pub in_use: bool,
    /// Whether the sender hears no answers any more, so that what is sent to it this way is probably lost, too.
    pub deaf: bool,
}

/// Whether the responder takes packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponderState {
    /// It has its tables and takes packets.
    Ready,
    /// It is alive but has not got its tables, or is about to stop: use another.
    NotReady,
}

/// The answer to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Between whom it travels.
    pub scope: ProbeScope,
    /// Whether the responder takes packets.
    pub state: ResponderState,
    /// The shortest interval between probes that the responder asks for, in milliseconds; 0 leaves it to the sender.
    pub interval_ms: u32,
    /// The responder: a node id, or a workload id in the direct scope.
    pub responder: u64,
    /// The sequence number of the probe.
    pub seq: u64,
    /// To be echoed in the next probe from the same source address.
    pub cookie: [u8; 16],
}

fn u64_at(bytes: &[u8; PROBE_LEN], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(value)
}

fn cookie_at(bytes: &[u8; PROBE_LEN]) -> [u8; 16] {
    let mut value = [0; 16];
    value.copy_from_slice(&bytes[24..40]);
    value
}

fn u32_at(bytes: &[u8; PROBE_LEN], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn sign(bytes: &mut [u8; PROBE_LEN], key: &[u8; 32]) {
    let tag = mac_tag(key, &[&bytes[..TAG_AT]]);
    bytes[TAG_AT..].copy_from_slice(&tag[..PROBE_LEN - TAG_AT]);
}

/// Whether the tag of a probe or an answer is right under `key`.
pub fn verify(bytes: &[u8; PROBE_LEN], key: &[u8; 32]) -> bool {
    verify_tag(key, &[&bytes[..TAG_AT]], &bytes[TAG_AT..])
}

impl Probe {
    /// The bytes of the probe with its tag under `key`.
    pub fn encode(&self, key: &[u8; 32]) -> [u8; PROBE_LEN] {
        let mut b = [0; PROBE_LEN];
        b[..4].copy_from_slice(&[PROBE, VERSION, self.scope.byte(), self.epoch_bits]);
        b[4..8].copy_from_slice(&self.cluster.get().to_be_bytes());
        b[8..16].copy_from_slice(&self.sender.to_be_bytes());
        b[16..24].copy_from_slice(&self.seq.to_be_bytes());
        b[24..40].copy_from_slice(&self.cookie);
        b[47] = u8::from(self.in_use) | u8::from(self.deaf) << 1;
        sign(&mut b, key);
        b
    }

    /// Reads a probe. Its tag is not checked: find the key by what it says, then call [`verify`].
    pub fn decode(bytes: &[u8; PROBE_LEN]) -> Option<Self> {
        if bytes[0] != PROBE || bytes[1] != VERSION {
            return None;
        }
        Some(Self {
            scope: ProbeScope::from_byte(bytes[2])?,
            epoch_bits: bytes[3] & 0x0f,
            cluster: ClusterId::new(u32_at(bytes, 4))?,
            sender: u64_at(bytes, 8),
            seq: u64_at(bytes, 16),
            cookie: cookie_at(bytes),
            in_use: bytes[47] & 1 != 0,
            deaf: bytes[47] & 2 != 0,
        })
    }
}

impl Answer {
    /// The bytes of the answer with its tag under `key`, which is the key of the probe.
    pub fn encode(&self, key: &[u8; 32]) -> [u8; PROBE_LEN] {
        let mut b = [0; PROBE_LEN];
        let state = match self.state {
            ResponderState::Ready => 0,
            ResponderState::NotReady => 1,
        };
        b[..4].copy_from_slice(&[ANSWER, VERSION, self.scope.byte(), state]);
        b[4..8].copy_from_slice(&self.interval_ms.to_be_bytes());
        b[8..16].copy_from_slice(&self.responder.to_be_bytes());
        b[16..24].copy_from_slice(&self.seq.to_be_bytes());
        b[24..40].copy_from_slice(&self.cookie);
        sign(&mut b, key);
        b
    }

    /// Reads an answer. Its tag is not checked: find the key by whom it is from, then call [`verify`].
    pub fn decode(bytes: &[u8; PROBE_LEN]) -> Option<Self> {
        if bytes[0] != ANSWER || bytes[1] != VERSION {
            return None;
        }
        Some(Self {
            scope: ProbeScope::from_byte(bytes[2])?,
            state: if bytes[3] == 0 { ResponderState::Ready } else { ResponderState::NotReady },
            interval_ms: u32_at(bytes, 4),
            responder: u64_at(bytes, 8),
            seq: u64_at(bytes, 16),
            cookie: cookie_at(bytes),
        })
    }
}

/// The epoch among `epochs` whose low bits are `bits`; the newest where several match.
pub fn epoch_of(bits: u8, epochs: impl IntoIterator<Item = Epoch>) -> Option<Epoch> {
    epochs.into_iter().filter(|epoch| epoch.low_bits() == bits).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn probe(seq: u64, [in_use, deaf]: [bool; 2]) -> Probe {
        Probe {
            scope: ProbeScope::Workload,
            epoch_bits: 3,
            cluster: ClusterId::new(77).unwrap(),
            sender: 5,
            seq,
            cookie: [9; 16],
            in_use,
            deaf,
        }
    }

    proptest! {
        #[test]
        fn a_probe_is_read_as_written_and_any_change_breaks_its_tag(seq: u64, flags: [bool; 2], at in 0usize..PROBE_LEN, bit in 0u8..8) {
            let key = workload_key(&[1; 32], WorkloadId(5));
            let mut bytes = probe(seq, flags).encode(&key);
            prop_assert_eq!(Probe::decode(&bytes), Some(probe(seq, flags)));
            prop_assert!(verify(&bytes, &key));
            prop_assert!(!verify(&bytes, &workload_key(&[1; 32], WorkloadId(6))));
            bytes[at] ^= 1 << bit;
            prop_assert!(!verify(&bytes, &key));
        }

        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in proptest::array::uniform32(any::<u8>()), kind in 0u8..4) {
            bytes[0] = kind;
            let mut all = [0; PROBE_LEN];
            all[..32].copy_from_slice(&bytes);
            let _ = (Probe::decode(&all), Answer::decode(&all));
        }
    }

    #[test]
    fn an_answer_is_read_as_written_and_is_not_a_probe() {
        let answer = Answer {
            scope: ProbeScope::Link,
            state: ResponderState::NotReady,
            interval_ms: 20,
            responder: 8,
            seq: 1,
            cookie: [4; 16],
        };
        let bytes = answer.encode(&[3; 32]);
        assert_eq!(Answer::decode(&bytes), Some(answer));
        assert_eq!(Probe::decode(&bytes), None);
        assert!(verify(&bytes, &[3; 32]));
    }
}
