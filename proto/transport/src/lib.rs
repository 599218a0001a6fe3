//! QUIC endpoints, the overlay socket, probes and paths; the only user of quinn.
//!
//! A sidecar binds an [`Overlay`] (one UDP socket whose packets go to whichever gateway answers) and runs an
//! [`OverlayEndpoint`] over it; before it has keys it joins through a [`BootstrapEndpoint`]. A gateway forwards with
//! [`forward`] and serves its own connections with [`gateway`]. [`PathState`] is the probe state machine of both.
//!
//! This crate owns every UDP socket and every setting of QUIC. Certificates are `causeway-identity`'s, the bytes of packets and
//! messages are `causeway-wire`'s, and which peer to talk to is the caller's decision.

pub mod endpoint;
pub mod error;
pub mod forward;
pub mod frames;
pub mod gateway;
pub mod metrics;
pub mod overlay;
pub mod path;
pub mod settings;

pub use endpoint::{
    BootstrapEndpoint, ConnectionKind, Destination, OverlayEndpoint, alpn, close, close_reason,
    close_reason_text, exporter, peer_chain, peer_identity, resolve, says_revoked,
};
pub use error::{ConnectError, FrameError, PeerError};
pub use frames::{FrameReader, FrameWriter};
pub use metrics::OverlayMetrics;
pub use overlay::{
    Attachment, BufferSizes, GatewayStatus, GatewayTarget, MAX_ADDRESSES, MAX_GATEWAYS, Overlay, virtual_addr,
};
pub use path::{PathState, ProbeTiming, Transition};
pub use settings::{HELLO_WINDOW, TransportSettings};

pub use quinn::{
    AcceptBi, Chunk, ClosedStream, Connecting, Connection, ConnectionError, ConnectionStats, Incoming,
    ReadDatagram, ReadError, ReadExactError, ReadToEndError, RecvStream, ResetError, SendDatagramError,
    SendStream, Side, StoppedError, StreamId, VarInt, WriteError,
};
