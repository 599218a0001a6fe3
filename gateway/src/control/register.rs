//! Registration: what a workload may serve, and the row that says it does.

use super::refusal;
use super::session::Sidecar;
use crate::hub::Hub;
use causeway_catalog::{Catalog, DeclarePorts};
use causeway_model::{PortSet, ServiceName};
use causeway_presence::{Row, ServedService};
use causeway_store::ProposeError;
use causeway_wire::ctl::{MAX_SERVED, Register};
use causeway_wire::view::Refusal;
use std::time::Duration;

/// How long this replica may take to see a change that it just made.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Checks a registration against intent and attaches the workload.
pub(super) async fn register(hub: &Hub, sidecar: &Sidecar, register: &Register) -> Result<(), Refusal> {
    let refuse = |reason: &str, message: String| refusal(register.request, reason, message);
    if register.services.len() > MAX_SERVED {
        let message =
            format!("{} services: a workload may serve at most {MAX_SERVED}", register.services.len());
        return Err(refuse("too-many-services", message));
    }
    for served in &register.services {
        may_serve(hub, sidecar, &served.name, &served.ports)
            .await
            .map_err(|(reason, message)| refuse(&reason, message))?;
    }
    let services = register
        .services
        .iter()
        .map(|served| ServedService {
            name: served.name.clone(),
            ports: served.ports.clone(),
            health: served.health,
        })
        .collect();
    let row = Row {
        workload: sidecar.workload,
        identity: sidecar.identity.clone(),
        services,
        locality: register.locality.clone().unwrap_or_else(|| hub.node.locality().clone()),
        weight: register.weight.clamp(1, 1000),
        overlay: register.overlay.clone(),
        release: sidecar.release.clone(),
        svid_key: sidecar.svid_keys.first().copied().unwrap_or_default(),
        older_keys: sidecar.svid_keys.iter().skip(1).copied().collect(),
        seq: 0,
        attached: true,
    };
    hub.attach(row).map_err(|error| refuse(error.reason(), error.to_string()))
}

/// Sees to it that `sidecar` may serve `name` with `ports`. That it may not is said only when the leader knows no better.
async fn may_serve(hub: &Hub, sidecar: &Sidecar, name: &ServiceName, ports: &PortSet) -> Result<(), Told> {
    let declared = match judge(&hub.catalog(), sidecar, name, ports) {
        Ok(declared) => declared,
        // this replica may lag behind: the token that allows it may be a moment old. Without a leader nobody knows, and a refusal
        // ends a sidecar
        Err(_) => {
            let current = hub.registry.current().await.map_err(|error| failed(&error))?;
            judge(&current, sidecar, name, ports)?
        }
    };
    if declared {
        return Ok(());
    }
    let declare = DeclarePorts { service: name.clone(), ports: ports.clone() };
    let proposed =
        hub.propose(&sidecar.identity.to_string(), declare).await.map_err(|error| failed(&error))?;
    // a replica that lags shows the ports a little later; the registration stands either way
    let _ = hub.registry.wait_applied(proposed.revision, CATCH_UP).await;
    Ok(())
}

/// Why a service cannot be registered: the stable word, and the message.
type Told = (String, String);

fn failed(error: &ProposeError) -> Told {
    (error.reason().to_owned(), error.to_string())
}

/// Whether `sidecar` may serve `name` with `ports`, as `catalog` has it. Returns false if the ports have to be declared first.
fn judge(catalog: &Catalog, sidecar: &Sidecar, name: &ServiceName, ports: &PortSet) -> Result<bool, Told> {
    catalog
        .may_serve(&sidecar.identity, name)
        .map_err(|refusal| (refusal.reason().to_owned(), refusal.to_string()))?;
    if ports.is_empty() {
        return Err((
            "ports-missing".into(),
            format!("service {name} is registered without ports: name them with --serve"),
        ));
    }
    let declared = catalog.service(name).map(|service| service.ports.clone()).unwrap_or_default();
    if declared == *ports {
        return Ok(true);
    }
    if declared.is_empty() {
        return Ok(false);
    }
    let message = format!(
        "service {name} has ports {declared}, and workload {} serves {ports}: an endpoint serves all ports of its service; \
         change --serve, or give the service another name",
        sidecar.workload
    );
    Err(("ports-differ".into(), message))
}
