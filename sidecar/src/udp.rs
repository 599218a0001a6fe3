//! Flows of UDP: what an application sends from one address to one port of a service, and what comes back.
//!
//! Owns the tables of flows, in both directions, and what becomes of each payload. A flow is one stream, opened, answered, judged and
//! logged as that of a TCP connection, whose bytes are capsules; once the peer has accepted it, payloads that fit travel as
//! DATAGRAM frames of the same connection. It ends with its stream: when nothing was carried for a while, when either side
//! may not or cannot go on, or with the connection. What an application sends after that begins another flow.
//!
//! Payloads are dropped rather than waited for, each counted by reason. Which endpoint a flow goes to is `outbound`'s concern, as for
//! TCP; the bytes are `causeway-wire`'s.

mod counts;
mod flow;
mod limits;
mod listener;
mod open;
mod outbox;
mod pump;
mod serve;
mod sink;
mod socket;
mod source;
mod table;
mod uplink;

pub(crate) use counts::UdpMetrics;
pub(crate) use limits::FlowLimits;
pub(crate) use listener::{Flows, Lookup, Routes};
pub(crate) use serve::{discard, serve};
pub(crate) use socket::{bind, connect};
pub(crate) use source::FlowSource;
pub(crate) use table::FlowTable;
