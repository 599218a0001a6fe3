//! To whom the services that this workload serves are exported.

use causeway_model::{ServiceName, TrustDomain};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most services whose exports are kept: a workload serves far fewer.
const MAX_SERVICES: usize = 1024;

/// The trust domains that each service is exported to; a service that is not in it is exported to none.
pub type Exports = Arc<BTreeMap<ServiceName, BTreeSet<TrustDomain>>>;

/// Takes what a gateway said; whether it is news. It names each service that it knows this workload to serve, also if that is
/// exported to none: of one that it does not name it knows nothing, and what was known stays.
pub(super) fn learn_exports(known: &mut Exports, told: Vec<(ServiceName, Vec<TrustDomain>)>) -> bool {
    let mut all: BTreeMap<ServiceName, BTreeSet<TrustDomain>> = BTreeMap::new();
    for (service, domains) in told {
        all.entry(service).or_default().extend(domains);
    }
    all.retain(|service, domains| known.get(service) != Some(domains));
    if all.is_empty() {
        return false;
    }
    let known = Arc::make_mut(known);
    for (service, domains) in all {
        if known.contains_key(&service) || known.len() < MAX_SERVICES {
            known.insert(service, domains);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_is_not_named_keeps_its_exports_and_one_without_domains_loses_them() {
        let name = |text: &str| text.parse::<ServiceName>().unwrap();
        let domain = |text: &str| text.parse::<TrustDomain>().unwrap();
        let mut known = Exports::default();
        let first =
            vec![(name("web.shop"), vec![domain("phx.mesh")]), (name("pay.shop"), vec![domain("lhr.mesh")])];
        assert!(learn_exports(&mut known, first.clone()));
        assert!(!learn_exports(&mut known, first));
        // a gateway that has just been started knows nothing yet
        assert!(!learn_exports(&mut known, Vec::new()));
        assert!(learn_exports(&mut known, vec![(name("web.shop"), Vec::new())]));
        assert!(known[&name("web.shop")].is_empty());
        assert_eq!(known[&name("pay.shop")].len(), 1);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut known = Exports::default();
        for round in 0..3 {
            let told = (0..700).map(|n| (format!("s{round}-{n}.shop").parse().unwrap(), Vec::new()));
            learn_exports(&mut known, told.collect());
        }
        assert_eq!(known.len(), MAX_SERVICES);
    }
}
