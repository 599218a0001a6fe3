//! Links: how gateways of linked clusters make an agreement and live by it, over `causeway-link/1`.
//!
//! `links/pair.rs` makes a link out of a token, `links/serve.rs` takes what other clusters' gateways bring, `links/dial.rs` keeps enough
//! connections open, `links/session.rs` is what both sides of such a connection do, `links/health.rs` knows which directions work, and
//! `links/transit.rs` which clusters are reached through others. What to tell and what to believe is decided
//! by the federation crate; what is known is the hub's; who may connect was decided by TLS.

mod dial;
mod error;
mod health;
mod introduction;
mod pair;
mod serve;
mod session;
mod status;
mod transit;

pub(crate) use error::LinkError;
pub(crate) use health::{Bulletin, Health, PairStatus, hear_sibling};
pub(crate) use pair::{accept, invite};
pub(crate) use serve::serve;
pub(crate) use status::{LinkCollector, state};
pub(crate) use transit::{Transit, hear_reaches, reaches, via};

use crate::hub::Hub;
use std::time::Duration;

/// How long a connection to one address may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// How long the first frame of a connection may take.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// How long a frame may take to be written: a peer that reads nothing for so long is given up.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// How long the last frame of a connection may take to arrive.
const FAREWELL: Duration = Duration::from_secs(2);
/// The name that is given to TLS. It is not sent, and nobody checks it: identities are SPIFFE IDs.
const SERVER_NAME: &str = "causeway";

/// Starts what keeps links going: calling the gateways of linked clusters, telling who hears whom, and who is reached through whom.
pub(crate) fn start(hub: &Hub) {
    dial::start(hub);
    health::start(hub);
    transit::start(hub);
}
