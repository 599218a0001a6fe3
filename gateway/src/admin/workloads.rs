//! `/v1/workloads`: what lives in the cluster.

use super::api::Workload;
use crate::hub::Hub;
use axum::Json;
use axum::extract::State;
use causeway_model::{Health, NodeId};
use causeway_presence::Row;
use std::sync::Arc;

pub(super) async fn list(State(hub): State<Hub>) -> Json<Vec<Workload>> {
    // the soft state is held only while pointers are copied
    let rows: Vec<(Arc<Row>, Vec<NodeId>)> =
        hub.soft().presence.workloads().map(|view| (view.row.clone(), view.gateways)).collect();
    Json(rows.iter().map(|(row, gateways)| shown(row, gateways)).collect())
}

fn shown(row: &Row, gateways: &[NodeId]) -> Workload {
    let worst = row.services.iter().map(|service| service.health).max().unwrap_or(Health::Healthy);
    Workload {
        id: row.workload.to_string(),
        identity: row.identity.to_string(),
        services: row.services.iter().map(|service| service.name.to_string()).collect(),
        region: row.locality.region.clone(),
        zone: row.locality.zone.clone(),
        health: worst.to_string(),
        gateways: gateways.iter().map(ToString::to_string).collect(),
        release: row.release.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_model::{Locality, PortSet, WorkloadId};
    use causeway_presence::ServedService;

    #[test]
    fn the_worst_health_counts() {
        let service = |name: &str, health| ServedService {
            name: name.parse().unwrap(),
            ports: PortSet::default(),
            health,
        };
        let mut row = Row {
            workload: WorkloadId(7),
            identity: "spiffe://iad.mesh/ns/shop/sa/payments".parse().unwrap(),
            services: vec![service("a.b", Health::Healthy), service("c.d", Health::Draining)],
            locality: Locality { region: "r".into(), zone: "z".into() },
            weight: 1,
            overlay: Vec::new(),
            release: "0.1.0".into(),
            svid_key: [0; 32],
            older_keys: Box::default(),
            seq: 1,
            attached: true,
        };
        let workload = shown(&row, &[NodeId(1)]);
        assert_eq!((workload.id.as_str(), workload.health.as_str()), ("0000000000000007", "draining"));
        assert_eq!(workload.services, ["a.b", "c.d"]);
        assert_eq!(workload.gateways, ["0000000000000001"]);
        row.services.clear();
        assert_eq!(shown(&row, &[]).health, "healthy");
    }
}
