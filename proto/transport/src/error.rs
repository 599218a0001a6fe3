//! Why a connection, an endpoint or a frame failed.

use crate::endpoint::{close_reason, close_reason_text};
use causeway_identity::VerifyError;
use causeway_wire::{CloseCode, CodecError};
use std::io;

/// An endpoint that could not be made, or a connection that could not be begun.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The TLS configuration has no cipher suite for QUIC's first packets (RFC 9001 section 5.2).
    #[error("the TLS configuration does not offer TLS 1.3 with AES-128-GCM, which QUIC begins with")]
    Tls,
    /// The socket could not be bound or driven.
    #[error("the QUIC endpoint cannot start: {0}")]
    Endpoint(#[source] io::Error),
    /// The overlay has no keys yet: the sidecar has not attached.
    #[error("the overlay has no connection id key: attach to a gateway before connecting")]
    NotAttached,
    /// The TLS session gives no key: its handshake is not complete.
    #[error("the connection's TLS session cannot export a key before its handshake is complete")]
    Export,
    /// quinn refused the connection: the endpoint is closed, or the server name is malformed.
    #[error("the connection cannot begin: {0}")]
    Connect(#[from] quinn::ConnectError),
}

impl ConnectError {
    /// The stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Tls => "tls-config",
            Self::Endpoint(_) => "endpoint-io",
            Self::NotAttached => "not-attached",
            Self::Export => "tls-export",
            Self::Connect(quinn::ConnectError::EndpointStopping) => "going-away",
            Self::Connect(_) => "connect-refused",
        }
    }
}

/// A peer whose identity is not known.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It showed no certificate, or the handshake is not complete.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// Its certificate is no X.509-SVID.
    #[error("the peer's certificate names no identity: {0}")]
    Identity(#[from] VerifyError),
}

impl PeerError {
    /// The stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no-certificate",
            Self::Identity(error) => error.reason(),
        }
    }
}

/// A message that could not be read from, or written to, a stream.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The bytes are not a frame, or not the message it claims to be.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The stream ended inside a frame.
    #[error("the peer ended the stream inside a message")]
    Truncated,
    /// The peer reset the stream, or stopped reading it.
    #[error("the peer gave up the stream: {}", code_text(*.0))]
    Refused(u64),
    /// The connection is gone.
    #[error("the connection is gone: {}", close_reason_text(.0))]
    Connection(quinn::ConnectionError),
    /// The stream was finished or reset on this side.
    #[error("the stream is closed on this side")]
    Closed,
}

fn code_text(code: u64) -> String {
    CloseCode::from_code(code).map_or_else(|| format!("code {code}"), |code| code.reason().to_owned())
}

impl FrameError {
    /// The stable word for logs and metrics: a close code's own where the peer gave one.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Codec(error) => error.reason(),
            Self::Truncated => "truncated",
            Self::Refused(code) => CloseCode::from_code(*code).map_or("stream-refused", CloseCode::reason),
            Self::Connection(error) => close_reason(error),
            Self::Closed => "stream-closed",
        }
    }
}

impl From<quinn::ReadError> for FrameError {
    fn from(error: quinn::ReadError) -> Self {
        match error {
            quinn::ReadError::Reset(code) => Self::Refused(code.into_inner()),
            quinn::ReadError::ConnectionLost(error) => Self::Connection(error),
            _ => Self::Closed,
        }
    }
}

impl From<quinn::WriteError> for FrameError {
    fn from(error: quinn::WriteError) -> Self {
        match error {
            quinn::WriteError::Stopped(code) => Self::Refused(code.into_inner()),
            quinn::WriteError::ConnectionLost(error) => Self::Connection(error),
            _ => Self::Closed,
        }
    }
}

impl From<quinn::ClosedStream> for FrameError {
    fn from(_: quinn::ClosedStream) -> Self {
        Self::Closed
    }
}
