//! Numbers that name things.

use crate::ParseError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:016x})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(s: &str) -> Result<Self, ParseError> {
                let digits = !s.is_empty() && s.len() <= 16 && s.bytes().all(|b| b.is_ascii_hexdigit());
                u64::from_str_radix(s, 16)
                    .ok()
                    .filter(|_| digits)
                    .map(Self)
                    .ok_or_else(|| ParseError::new($what, s, "write 1 to 16 hexadecimal digits"))
            }
        }
    };
}

hex_id!(
    /// A gateway of a cluster. Written in hexadecimal. 0 stands for "any gateway of the cluster" in connection IDs.
    NodeId,
    "node id"
);
hex_id!(
    /// One running instance of an application with its sidecar; new at every start.
    WorkloadId,
    "workload id"
);
hex_id!(
    /// The opaque name that an exporting cluster gives an exported service, used in connection IDs.
    ServiceHandle,
    "service handle"
);

impl NodeId {
    /// Any gateway of the cluster.
    pub const ANY: Self = Self(0);
}

/// A cluster's number in connection IDs: 24 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct ClusterId(u32);

impl ClusterId {
    /// The largest cluster id.
    pub const MAX: u32 = 0x00ff_ffff;

    /// A cluster id, if `id` fits in 24 bits and is not 0 (0 is kept for "no cluster").
    pub const fn new(id: u32) -> Option<Self> {
        if id > 0 && id <= Self::MAX { Some(Self(id)) } else { None }
    }

    /// The cluster id in the low 24 bits of a hash. 0 is no cluster: the one hash in 16 million that has it gives 1.
    pub const fn from_hash(bits: u32) -> Self {
        let id = bits & Self::MAX;
        Self(if id == 0 { 1 } else { id })
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for ClusterId {
    type Error = ParseError;

    fn try_from(id: u32) -> Result<Self, ParseError> {
        Self::new(id).ok_or_else(|| {
            ParseError::new("cluster id", &id.to_string(), "write a number from 1 to 16777215")
        })
    }
}

impl From<ClusterId> for u32 {
    fn from(id: ClusterId) -> u32 {
        id.0
    }
}

impl FromStr for ClusterId {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        s.parse::<u32>()
            .ok()
            .and_then(Self::new)
            .ok_or_else(|| ParseError::new("cluster id", s, "write a number from 1 to 16777215"))
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({})", self.0)
    }
}

/// The registry's ever-growing change number (the Raft log index).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The generation of a key, of an origin's deltas, or of an owner; a newer one fences the older. Connection IDs carry its
/// low 4 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The part of the epoch that a connection ID carries.
    pub const fn low_bits(self) -> u8 {
        (self.0 & 0x0f) as u8
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_they_parse() {
        let id = WorkloadId(0xdead_beef);
        assert_eq!(id.to_string().parse::<WorkloadId>().unwrap(), id);
        assert!("".parse::<WorkloadId>().is_err());
        assert!("+1".parse::<WorkloadId>().is_err());
        assert!("11112222333344445".parse::<WorkloadId>().is_err());
    }

    #[test]
    fn a_cluster_id_has_24_bits_and_is_not_zero() {
        assert!(ClusterId::new(0).is_none());
        assert!(ClusterId::new(1 << 24).is_none());
        assert_eq!("16777215".parse::<ClusterId>().unwrap().get(), ClusterId::MAX);
        assert!(serde_json::from_str::<ClusterId>("16777216").is_err());
    }
}
