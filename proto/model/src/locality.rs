//! Where something runs.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A region (`us-ashburn-1`) and a zone in it (an availability domain, `AD-1`). Both are the cloud's own words and are
/// compared as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Locality {
    /// The region.
    pub region: String,
    /// The zone in the region.
    pub zone: String,
}

impl Locality {
    /// The longest region or zone that a peer may name, in bytes.
    pub const MAX_LEN: usize = 128;

    /// How far `other` is: 0 the same zone, 1 the same region, 2 elsewhere.
    pub fn distance(&self, other: &Self) -> u8 {
        match (self.region == other.region, self.zone == other.zone) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => 2,
        }
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.region, self.zone)
    }
}
