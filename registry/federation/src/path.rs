//! Which directions between the gateways of two linked clusters work.
//!
//! Both ends of a pair of gateways send heartbeats and say in them when they last heard the other, so each end learns of both
//! directions: [`PairHealth`] measures round trips and loss. When one direction is lost, the gateway that hears nothing cannot
//! learn from the pair whether it is still heard. So the gateways of both clusters pass on what they say of each direction
//! ([`PairReport`]) over all their connections, and [`LinkHealth`] makes a [`Verdict`] of it which is the same at both ends:
//! the gateway that hears nothing decides, and the other one adopts it.
//!
//! It sends nothing itself and moves no traffic: which path packets take is the forwarder's business.

mod link;
mod pair;
mod window;

pub use link::{LinkHealth, Reports};
pub use pair::PairHealth;

use causeway_model::{ClusterId, NodeId};
use std::time::Duration;

/// How often a heartbeat is sent to each gateway of the peer; and reports, over every connection.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
/// A direction in which nothing was heard for this long is lost.
pub const LOST_AFTER: Duration = Duration::from_secs(2);

/// A gateway of either cluster: node ids are unique in a cluster only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayId {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its number there.
    pub node: NodeId,
}

/// What the gateway at the end of a direction says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hearing {
    /// It hears the other gateway.
    Hears,
    /// It does not, and does not know yet whether the other hears it.
    #[default]
    Undecided,
    /// It does not, and knows that the other hears it.
    OneWay,
    /// It does not, and knows of nothing that arrives at the other.
    Silent,
}

impl From<Hearing> for u8 {
    fn from(hearing: Hearing) -> Self {
        match hearing {
            Hearing::Hears => 0,
            Hearing::Undecided => 1,
            Hearing::OneWay => 2,
            Hearing::Silent => 3,
        }
    }
}

impl From<u8> for Hearing {
    /// What a later release may say beyond this is undecided here.
    fn from(byte: u8) -> Self {
        match byte {
            0 => Self::Hears,
            2 => Self::OneWay,
            3 => Self::Silent,
            _ => Self::Undecided,
        }
    }
}

/// What one gateway of a pair tells the other every [`HEARTBEAT_INTERVAL`], and at once when `hearing` changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Counts the speaker's heartbeats to the listener from 1.
    pub seq: u64,
    /// The speaker's clock, in milliseconds since 1970: of two things that it said the later one has the greater number.
    pub unix_ms: u64,
    /// The highest number that the speaker heard of the listener; 0 before the first.
    pub heard: u64,
    /// How many it heard.
    pub received: u64,
    /// How long ago the highest one arrived, or the connection was made if that is later, in milliseconds.
    pub heard_ago_ms: u32,
    /// What the speaker makes of it.
    pub hearing: Hearing,
}

/// What `to` says of the direction from `from`, as it is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairReport {
    /// Who speaks in this direction.
    pub from: GatewayId,
    /// Who listens, and says so.
    pub to: GatewayId,
    /// The clock of `to` when it said so, in milliseconds since 1970.
    pub unix_ms: u64,
    /// How long ago something was heard, in milliseconds.
    pub heard_ago_ms: u32,
    /// How long ago the listener said so, in milliseconds.
    pub said_ago_ms: u32,
    /// What the listener makes of it.
    pub hearing: Hearing,
}

/// Whether two gateways reach each other: both come to the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both directions work.
    Up,
    /// What `from` sends does not arrive at `to`; the other way it does, or did when this was found.
    OneWay {
        /// Who is not heard.
        from: GatewayId,
        /// Who does not hear.
        to: GatewayId,
    },
    /// Nothing arrives either way, or nobody is left to say that it does.
    Silent,
}

impl Verdict {
    /// The stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::OneWay { .. } => "one-way-loss",
            Self::Silent => "silent",
        }
    }
}
