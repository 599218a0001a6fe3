//! One service as the admin API shows it.

use crate::admin::api::{Endpoint, Offer, Service};
use crate::admin::exports::clusters;
use crate::hub::{Hub, Soft};
use causeway_catalog::Catalog;
use causeway_federation::Merged;
use causeway_model::{ClusterId, Health, Locality, ServiceName, WorkloadId};
use causeway_wire::view::{EndpointView, Offer as Offered, ServiceView};
use std::collections::{BTreeMap, BTreeSet};

/// The service of that name; nothing when nobody offers it.
pub(super) fn service(hub: &Hub, name: &ServiceName) -> Option<Service> {
    services(hub, std::slice::from_ref(name)).pop()
}

/// The services of these names; those that nobody offers are left out. The soft state is held meanwhile, so they must be few.
pub(super) fn services(hub: &Hub, names: &[ServiceName]) -> Vec<Service> {
    let own = hub.node.cluster().id;
    let read = |catalog: &Catalog, soft: &Soft, merged: Merged| {
        let view = merged.view;
        (!view.offers.is_empty()).then(|| shown(&view, &Around::of(own, catalog, soft, &view)))
    };
    hub.services(names, hub.node.locality(), read).into_iter().flatten().collect()
}

/// What an offer does not say itself.
#[derive(Debug)]
pub(super) struct Around {
    own: ClusterId,
    exported_to: Vec<String>,
    zones: BTreeMap<ClusterId, BTreeSet<String>>,
}

impl Around {
    pub(super) fn of(own: ClusterId, catalog: &Catalog, soft: &Soft, view: &ServiceView) -> Self {
        let zones_of = |cluster: ClusterId| -> BTreeSet<String> {
            if cluster == own {
                return soft.presence.endpoints(&view.name).map(|row| row.locality.zone.clone()).collect();
            }
            let import = soft.peers.get(&cluster).and_then(|peer| peer.imports.by_name(&view.name));
            let localities = import.into_iter().flat_map(|import| import.localities());
            localities.map(|(locality, _)| locality.zone).collect()
        };
        Self {
            own,
            exported_to: catalog.export_of(&view.name).map(|export| clusters(&export.to)).unwrap_or_default(),
            zones: view.offers.iter().map(|offer| (offer.cluster.id, zones_of(offer.cluster.id))).collect(),
        }
    }
}

pub(super) fn shown(view: &ServiceView, around: &Around) -> Service {
    Service {
        name: view.name.to_string(),
        offers: view.offers.iter().map(|offered| offer(offered, around)).collect(),
    }
}

fn offer(offered: &Offered, around: &Around) -> Offer {
    let cluster = &offered.cluster;
    let local = cluster.id == around.own;
    Offer {
        cluster: cluster.name.to_string(),
        region: cluster.locality.region.clone(),
        zones: around.zones.get(&cluster.id).into_iter().flatten().cloned().collect(),
        ports: offered.ports.iter().map(|port| port.to_string()).collect(),
        healthy: offered.healthy,
        total: offered.total,
        origin: if local { "local" } else { "imported" }.to_owned(),
        exported_to: if local { around.exported_to.clone() } else { Vec::new() },
        identities: offered.identities.iter().map(ToString::to_string).collect(),
        stale_for: offered.stale_for.map(u64::from),
        endpoints: offered.endpoints.iter().map(told).collect(),
    }
}

fn told(view: &EndpointView) -> Endpoint {
    endpoint(view.instance, &view.locality, view.health, view.weight)
}

/// An endpoint as the API shows it.
pub(super) fn endpoint(instance: WorkloadId, locality: &Locality, health: Health, weight: u16) -> Endpoint {
    Endpoint {
        workload: instance.to_string(),
        region: locality.region.clone(),
        zone: locality.zone.clone(),
        health: health.to_string(),
        weight,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use causeway_model::{ClusterFacts, Epoch};
    use causeway_wire::Cid;

    /// A service with these offers.
    pub(in crate::admin::services) fn service(name: &str, offers: Vec<Offer>) -> Service {
        Service { name: name.to_owned(), offers }
    }

    /// An offer of `cluster`, which is in `region`.
    pub(in crate::admin::services) fn offer(cluster: &str, region: &str) -> Offer {
        Offer {
            cluster: cluster.to_owned(),
            region: region.to_owned(),
            zones: vec!["AD-1".into()],
            ports: vec!["80/tcp".into()],
            healthy: 1,
            total: 1,
            origin: "imported".into(),
            exported_to: Vec::new(),
            identities: Vec::new(),
            stale_for: None,
            endpoints: Vec::new(),
        }
    }

    fn offered(name: &str, id: u32) -> Offered {
        let cluster = ClusterFacts {
            name: name.parse().unwrap(),
            id: ClusterId::new(id).unwrap(),
            trust_domain: format!("{name}.mesh").parse().unwrap(),
            locality: Locality { region: format!("us-{name}-1"), zone: "AD-1".into() },
        };
        let endpoint = EndpointView {
            instance: WorkloadId(5),
            cid: Cid::endpoint(cluster.id, Epoch(1), 5, 0),
            locality: Locality { region: format!("us-{name}-1"), zone: "AD-2".into() },
            weight: 100,
            health: Health::Draining,
        };
        Offered {
            identities: vec![format!("spiffe://{name}.mesh/ns/shop/sa/payments").parse().unwrap()],
            cluster,
            handle: None,
            ports: vec!["80/http".parse().unwrap(), "53/udp".parse().unwrap()].try_into().unwrap(),
            healthy: 2,
            total: 3,
            stale_for: (id != 1).then_some(9),
            endpoints: vec![endpoint],
        }
    }

    #[test]
    fn local_and_imported_offers_are_told_apart() {
        let view = ServiceView {
            name: "payments.shop".parse().unwrap(),
            offers: vec![offered("iad", 1), offered("phx", 2)],
        };
        let zones = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let around = Around {
            own: ClusterId::new(1).unwrap(),
            exported_to: vec!["*".into()],
            zones: [
                (ClusterId::new(1).unwrap(), zones(&["AD-1", "AD-2"])),
                (ClusterId::new(2).unwrap(), zones(&["AD-3"])),
            ]
            .into(),
        };
        let shown = shown(&view, &around);
        let [local, imported] = shown.offers.as_slice() else { unreachable!() };
        assert_eq!((local.origin.as_str(), imported.origin.as_str()), ("local", "imported"));
        assert_eq!((local.exported_to.as_slice(), imported.exported_to.len()), (&["*".to_owned()][..], 0));
        assert_eq!(
            (&local.zones, &imported.zones),
            (&vec!["AD-1".into(), "AD-2".into()], &vec!["AD-3".into()])
        );
        assert_eq!((local.stale_for, imported.stale_for), (None, Some(9)));
        assert_eq!(local.ports, ["53/udp", "80/http"]);
        assert_eq!(local.endpoints[0].workload, "0000000000000005");
        assert_eq!(
            (local.endpoints[0].health.as_str(), local.endpoints[0].zone.as_str()),
            ("draining", "AD-2")
        );
    }
}
