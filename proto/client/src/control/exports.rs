//! To whom the services that this workload serves are exported.

use causeway_model::{ServiceName, TrustDomain};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The trust domains that each service is exported to; a service that is not in it is exported to none.
pub type Exports = Arc<BTreeMap<ServiceName, BTreeSet<TrustDomain>>>;

/// What a gateway said, as a map.
pub(super) fn exports(services: Vec<(ServiceName, Vec<TrustDomain>)>) -> Exports {
    let mut all: BTreeMap<ServiceName, BTreeSet<TrustDomain>> = BTreeMap::new();
    for (service, domains) in services {
        all.entry(service).or_default().extend(domains);
    }
    Arc::new(all)
}
