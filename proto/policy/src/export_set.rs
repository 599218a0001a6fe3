//! Which services are exported to which trust domains.

use causeway_model::{ServiceName, TrustDomain};
use std::collections::{BTreeMap, BTreeSet};

/// The exports of a cluster, compiled to the trust domains that may use each service.
///
/// A service is either absent (nobody outside the cluster may use it) or present with the trust domains that may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportSet {
    allowed: BTreeMap<ServiceName, BTreeSet<TrustDomain>>,
}

impl ExportSet {
    /// The set that allows exactly `exported`. A service with no trust domain is dropped.
    pub fn new(mut exported: BTreeMap<ServiceName, BTreeSet<TrustDomain>>) -> Self {
        exported.retain(|_, domains| !domains.is_empty());
        Self { allowed: exported }
    }

    /// True when `service` is exported to `domain`.
    pub fn allows(&self, service: &ServiceName, domain: &TrustDomain) -> bool {
        self.allowed.get(service).is_some_and(|domains| domains.contains(domain))
    }

    /// True when no service is exported to anybody.
    pub fn is_empty(&self) -> bool {
        self.allowed.is_empty()
    }
}
