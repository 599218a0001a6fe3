//! `/v1/exports`: what is offered to linked clusters.

use super::api::{Export, ExportTo};
use super::change;
use super::error::ApiError;
use super::extract::{Actor, Ask, Body, Segment, parse, parse_if};
use crate::hub::Hub;
use axum::Json;
use axum::extract::State;
use causeway_catalog::{Catalog, Exported, Outcome, Unexport};
use causeway_model::{ClusterName, ServiceHandle, ServiceName};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What stands for every linked cluster.
const EVERYBODY: &str = "*";

/// From whom an export is taken back; from everybody unless given.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct From {
    from: Option<String>,
}

/// How new the answer must be.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Freshness {
    consistent: bool,
}

pub(super) async fn list(
    State(hub): State<Hub>,
    Ask(freshness): Ask<Freshness>,
) -> Result<Json<Vec<Export>>, ApiError> {
    let catalog = if freshness.consistent { hub.registry.current().await? } else { hub.catalog() };
    Ok(Json(catalog.exports().map(|export| shown(&catalog, export)).collect()))
}

pub(super) async fn put(
    State(hub): State<Hub>,
    actor: Actor,
    Segment(service): Segment,
    Body(request): Body<ExportTo>,
) -> Result<Json<Export>, ApiError> {
    let command = command(&service, &request, ServiceHandle(rand::random_range(1..=u64::MAX)))?;
    let (service, to) = (command.service.clone(), command.to.clone());
    let proposed = change(&hub, &actor, command).await?;
    tracing::info!(%service, %to, by = actor.0, "service exported");
    let Outcome::Exported { handle, unlinked } = proposed.outcome else {
        return Err(ApiError::of("internal", "the registry answered an export with something else"));
    };
    let catalog = hub.catalog();
    // the clusters of earlier exports count, too; a replica that lags shows only those that were just named
    let export = catalog.export_of(&service).filter(|export| export.handle == handle);
    Ok(Json(export.map_or_else(
        || Export {
            service: service.to_string(),
            handle: handle.to_string(),
            to: clusters(&to),
            not_linked: names(&unlinked),
        },
        |export| shown(&catalog, export),
    )))
}

pub(super) async fn delete(
    State(hub): State<Hub>,
    actor: Actor,
    Segment(service): Segment,
    Ask(query): Ask<From>,
) -> Result<Json<Value>, ApiError> {
    let service: ServiceName = parse("service", &service)?;
    let from: Option<ClusterName> = parse_if("from", query.from.as_deref())?;
    let from = from.map(|cluster| BTreeSet::from([cluster]));
    change(&hub, &actor, Unexport { service: service.clone(), from }).await?;
    tracing::info!(%service, from = query.from.as_deref().unwrap_or(EVERYBODY), by = actor.0, "export taken back");
    Ok(Json(json!({})))
}

fn command(
    service: &str,
    request: &ExportTo,
    handle: ServiceHandle,
) -> Result<causeway_catalog::Export, ApiError> {
    let service = parse("service", service)?;
    let to = match request.to.as_deref() {
        None => causeway_catalog::ExportTo::All,
        Some([]) => {
            return Err(ApiError::invalid(
                "to",
                "it names nobody: name clusters, or leave it out for every linked one",
            ));
        }
        Some([all]) if all == EVERYBODY => causeway_catalog::ExportTo::All,
        Some(named) => {
            let named: Result<_, ApiError> = named.iter().map(|name| parse("to", name)).collect();
            causeway_catalog::ExportTo::Clusters(named?)
        }
    };
    Ok(causeway_catalog::Export { service, handle, to })
}

fn shown(catalog: &Catalog, export: &Exported) -> Export {
    let not_linked = match &export.to {
        causeway_catalog::ExportTo::All => Vec::new(),
        causeway_catalog::ExportTo::Clusters(named) => {
            names(named.iter().filter(|cluster| catalog.link(cluster).is_none()))
        }
    };
    Export {
        service: export.service.to_string(),
        handle: export.handle.to_string(),
        to: clusters(&export.to),
        not_linked,
    }
}

/// The clusters that `to` names; `*` stands for every linked one.
pub(super) fn clusters(to: &causeway_catalog::ExportTo) -> Vec<String> {
    match to {
        causeway_catalog::ExportTo::All => vec![EVERYBODY.to_owned()],
        causeway_catalog::ExportTo::Clusters(named) => names(named),
    }
}

fn names<'a>(clusters: impl IntoIterator<Item = &'a ClusterName>) -> Vec<String> {
    clusters.into_iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(to: Option<&[&str]>) -> Result<Vec<String>, ApiError> {
        let to = to.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        command("payments.shop", &ExportTo { to }, ServiceHandle(5)).map(|command| clusters(&command.to))
    }

    #[test]
    fn nothing_and_a_star_mean_everybody() {
        assert_eq!(asked(None).unwrap(), ["*"]);
        assert_eq!(asked(Some(&["*"])).unwrap(), ["*"]);
        assert_eq!(asked(Some(&["phx", "fra", "phx"])).unwrap(), ["fra", "phx"]);
    }

    #[test]
    fn a_wrong_name_is_refused_with_its_field() {
        for to in [&[][..], &["PHX"], &["phx", "*"]] {
            let problem = asked(Some(to)).unwrap_err().problem;
            assert!(problem.message.starts_with("to: "), "{}", problem.message);
        }
        let error = command("payments", &ExportTo::default(), ServiceHandle(5)).unwrap_err();
        assert_eq!(error.status.as_u16(), 400);
        assert!(error.problem.message.starts_with("service: "), "{}", error.problem.message);
    }
}
