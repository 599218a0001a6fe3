//! The command about virtual addresses.

use causeway_model::VipName;
use serde::{Deserialize, Serialize};

/// Gives each of these names a virtual address, unless it has one. A name that has one keeps it for ever: also when its service is
/// removed or no longer imported, because an application may still hold the address, and it must never lead to another service.
///
/// The answer has one result for each name, so that one that cannot have an address keeps none of the others from theirs. Not audited:
/// sidecars cause it when applications first ask for names, and that must not push what operators did out of the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocateVips {
    /// The names, 1 to [`crate::MAX_VIP_BATCH`].
    pub names: Vec<VipName>,
}
