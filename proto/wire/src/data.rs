//! `causeway-data/1`: between sidecars, end to end.
//!
//! The client opens the first bidirectional stream and both sides say [`DataHello`] on it; the client may open further
//! streams at once. Each of those carries one TCP connection: the client writes [`StreamHeader`] and the application's bytes after it,
//! the server writes [`StreamAnswer`] and, if it accepts, the application's bytes after that.
//!
//! A stream whose header says UDP carries one flow: [`FlowStart`] follows the header, capsules with payloads follow that and the answer,
//! and DATAGRAM frames carry the other payloads ([`crate::datagram`]). The flow ends with the stream.

use crate::codec::messages;
use crate::datagram::FlowId;
use crate::view::VersionInfo;
use causeway_model::{ClusterId, Protocol, ServiceName, WorkloadId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The longest stream header, as a frame, in bytes.
pub const MAX_STREAM_HEADER: usize = 1024;

/// Who speaks, told once on each connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataHello {
    /// The release.
    pub version: VersionInfo,
    /// The cluster.
    pub cluster: ClusterId,
    /// The instance.
    pub instance: WorkloadId,
    /// Where sidecars of the same cluster may reach it directly; at most 8.
    pub direct: Vec<SocketAddr>,
}

/// What a stream is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamHeader {
    /// The service that is called.
    pub service: ServiceName,
    /// Its port.
    pub port: u16,
    /// What will be spoken on it.
    pub protocol: Protocol,
    /// A trace context: trace id and parent span id (W3C Trace Context, section 3.2.2).
    pub trace: Option<([u8; 16], [u8; 8])>,
    /// How long the caller waits for the answer, in milliseconds; 0 means without end.
    pub deadline_ms: u32,
}

/// What follows the header of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowStart {
    /// What its DATAGRAM frames are known by, in both directions, until the stream ends.
    pub id: FlowId,
}

/// Whether the server takes the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamAnswer {
    /// The application has the connection.
    Accepted,
    /// It has not: a [`crate::CloseCode`] says why.
    Refused(u32),
}

messages! {
    /// What sidecars say to each other, before an application's bytes.
    DataMessage {
        /// Who speaks.
        1 = Hello(DataHello),
        /// What a stream is for.
        2 = Header(StreamHeader),
        /// Whether it is taken.
        3 = Answer(StreamAnswer),
        /// What follows the header of a flow.
        4 = Flow(FlowStart),
    }
}
