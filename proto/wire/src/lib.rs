//! What crosses the network: connection IDs, packet headers, probes, control messages, tokens, close codes.
//!
//! This crate owns the bytes: how each thing is laid out, how it is parsed, and the bounds that are checked before memory
//! is taken. It owns no socket, no clock and no randomness. [`codec`] is the only place that names the serialization
//! library.

pub mod cid;
pub mod close;
pub mod codec;
pub mod ctl;
pub mod data;
pub mod datagram;
pub mod envelope;
pub mod link;
mod mac;
pub mod packet;
pub mod peer;
pub mod probe;
pub mod token;
pub mod view;

pub use cid::{Cid, CidKey, CidKeys, CidKind};
pub use close::CloseCode;
pub use codec::{CodecError, Frame, FrameDecoder, Message};
pub use envelope::Envelope;
pub use mac::{derive_key, mac_tag, verify_tag};

/// The protocols of the mesh's QUIC connections, as ALPN names (RFC 7301).
pub mod alpn {
    /// Between the gateways of one cluster: Raft, presence, forwarded writes.
    pub const RAFT: &[u8] = b"causeway-raft/1";
    /// Between gateways of linked clusters.
    pub const LINK: &[u8] = b"causeway-link/1";
    /// Between a sidecar and its gateways.
    pub const CTL: &[u8] = b"causeway-ctl/1";
    /// Between sidecars, end to end.
    pub const DATA: &[u8] = b"causeway-data/1";
}
