//! `/v1/services` and `/v1/resolve`: services wherever they run.
//!
//! Here is what is asked; `services/filter.rs` says which are meant, `services/page.rs` collects them in portions,
//! `services/view.rs` shows one, `services/detail.rs` everything about one, `services/watch.rs` tells what changes.

mod detail;
mod filter;
mod page;
mod pattern;
#[cfg(test)]
mod scale;
mod view;
mod walk;
mod watch;

use super::api::{Service, ServiceDetail, ServiceQuery};
use super::error::ApiError;
use super::extract::{Ask, Segment, parse, parse_if};
use crate::hub::{Hub, Position};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use causeway_catalog::Refusal;
use causeway_model::ServiceName;
use filter::Filter;
use page::Page;
use std::time::Duration;
use view::service;

/// After so many services other work gets its turn: the soft state is held for that long.
const TURN: usize = 64;
/// How long a watch that comes from another gateway waits for this replica of the registry to be as new as that one's.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn list(
    State(hub): State<Hub>,
    Ask(query): Ask<ServiceQuery>,
) -> Result<Response, ApiError> {
    let filter = Filter::of(&query)?;
    let resume: Option<Position> = parse_if("resume", query.resume.as_deref())?;
    if !query.watch {
        if resume.is_some() {
            return Err(ApiError::invalid("resume", "only a watch goes on: add watch=true, or leave it out"));
        }
        return Ok(Json(page::page(&hub, filter, Page::of(&query)?).await?).into_response());
    }
    let pages = [
        ("limit", query.limit.is_some()),
        ("after", query.after.is_some()),
        ("sort", query.sort != super::api::SortBy::Name),
    ];
    if let Some((field, _)) = pages.into_iter().find(|(_, given)| *given) {
        return Err(ApiError::invalid(field, "a watch has no pages: leave it out, or leave out watch"));
    }
    if let Some(position) = resume {
        catch_up(&hub, position).await?;
    }
    Ok(watch::stream(hub, filter, resume.filter(|_| !query.anew)))
}

/// Waits until this gateway knows of every change of intent that the watcher has seen: it must not be told of older ones again.
async fn catch_up(hub: &Hub, position: Position) -> Result<(), ApiError> {
    hub.registry.wait_applied(position.revision, PATIENCE).await.map_err(|lagging| {
        let message = format!(
            "the watch is ahead of this gateway: {lagging}; try again in a moment or at another gateway, or watch without resume"
        );
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "behind", message)
    })
}

pub(super) async fn show(
    State(hub): State<Hub>,
    Segment(name): Segment,
) -> Result<Json<ServiceDetail>, ApiError> {
    let name: ServiceName = parse("service", &name)?;
    let found = detail::detail(&hub, &name).await;
    Ok(Json(found.ok_or(Refusal::ServiceUnknown { service: name })?))
}

pub(super) async fn resolve(
    State(hub): State<Hub>,
    Segment(name): Segment,
) -> Result<Json<Service>, ApiError> {
    let name: ServiceName = parse("service", &name)?;
    let found = service(&hub, &name);
    Ok(Json(found.ok_or(Refusal::ServiceUnknown { service: name })?))
}
