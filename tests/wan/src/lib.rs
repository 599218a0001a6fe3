//! A WAN in a process: a UDP relay that delays, loses, shapes and cuts what passes between two addresses.
//!
//! It stands in for netem where the kernel has none, and needs no privilege. A [`Relay`] listens on one address and
//! forwards to one target; every source address that it hears gets an upstream socket of its own, as with NAT, so that
//! answers find their way and a gateway's several source ports stay apart. Each direction has an [`Impairment`] of its
//! own, which can be changed while traffic flows, and a seeded source of randomness: the fate of the n-th datagram of a
//! direction depends on the seed and the settings alone.
//!
//! It owns no knowledge of QUIC or of the mesh, and does not carry ECN marks over.

mod batch;
mod error;
mod flows;
mod impairment;
mod pipe;
mod relay;
mod units;
mod worker;

pub use error::RelayError;
pub use impairment::{Direction, Impairment};
pub use pipe::Counters;
pub use relay::Relay;
pub use units::{UnitError, parse_bytes, parse_loss, parse_rate};
