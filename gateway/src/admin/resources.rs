//! `/v1/apply` and `/v1/resources`: what operators want of a cluster as documents, for GitOps.
//!
//! Here are the handlers and the table of kinds. What a kind is, is in a file of its own (`export.rs`, `link.rs`, `service.rs`)
//! that implements [`kind::Kind`]; a further one is a further file and a line in [`KINDS`]. `decode.rs` finds every mistake
//! of a document, `plan.rs` finds out what documents take before anything is changed, `run.rs` does it. A document that
//! asks for what is already so proposes nothing to the registry.

mod decode;
mod export;
mod faults;
mod kind;
mod link;
mod plan;
mod run;
mod schema;
mod service;
mod text;

#[cfg(test)]
mod tests;

use super::api::{Applied, Apply, ApplyProblem, Document, KindInfo, Mistake, ResourcePage, ResourceQuery};
use super::change;
use super::error::ApiError;
use super::extract::{Actor, Ask, Segment};
use crate::hub::Hub;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kind::{AnyKind, Of};
use plan::{Ground, Planned};
use serde_json::{Value, json};

/// The largest body of documents to apply, in bytes.
pub(super) const MAX_BODY: usize = 4 * 1024 * 1024;
/// How many resources a page has unless the request says otherwise.
const PAGE: usize = 1_000;
/// How many it has at most.
const MAX_PAGE: usize = 10_000;

/// The kinds in the order in which they are applied: what others build on comes first.
static KINDS: [&(dyn AnyKind + Sync); 3] =
    [&Of::<service::ServiceKind>::NEW, &Of::<export::ExportKind>::NEW, &Of::<link::LinkKind>::NEW];

/// The kinds of resources, in the order in which they are applied.
pub fn kinds() -> Vec<KindInfo> {
    KINDS.iter().map(|kind| kind.info()).collect()
}

/// What is wrong with the form of `documents`. Whether a cluster can take them is another question, that `/v1/apply` answers.
pub fn check(documents: &[Value]) -> Vec<Mistake> {
    plan::check(documents).mistakes
}

/// The kind of that name and its place in the table. Case does not matter, and the plural will do.
fn find(name: &str) -> Option<(usize, &'static (dyn AnyKind + Sync))> {
    let same = |known: &str| known.eq_ignore_ascii_case(name);
    KINDS.iter().copied().enumerate().find(|(_, kind)| same(kind.name()) || same(kind.plural()))
}

/// Why there is no kind of that name, and which there are.
fn no_kind(name: &str) -> String {
    let known: Vec<&str> = KINDS.iter().map(|kind| kind.name()).collect();
    let name: String = name.chars().take(64).collect();
    format!("no kind {name:?}{}: there are {}", faults::meant(&name, &known), known.join(", "))
}

fn kind_of(name: &str) -> Result<&'static (dyn AnyKind + Sync), ApiError> {
    let missing = || ApiError::new(StatusCode::NOT_FOUND, "kind-unknown", no_kind(name));
    find(name).map(|(_, kind)| kind).ok_or_else(missing)
}

/// What is not there is not there for one reason, whatever its kind.
fn not_there(mut error: ApiError) -> ApiError {
    if error.status == StatusCode::NOT_FOUND {
        error.problem.reason = "resource-unknown".to_owned();
    }
    error
}

pub(super) async fn list(
    State(hub): State<Hub>,
    Segment(kind): Segment,
    Ask(query): Ask<ResourceQuery>,
) -> Result<Json<ResourcePage>, ApiError> {
    let kind = kind_of(&kind)?;
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(ApiError::invalid("limit", format!("{limit} is out of bounds: give 1 to {MAX_PAGE}")));
    }
    let catalog = hub.catalog();
    let items = kind.page(&catalog, query.after.as_deref(), limit)?;
    let next = (items.len() == limit).then(|| items.last().map(|last| last.metadata.name.clone())).flatten();
    Ok(Json(ResourcePage { revision: catalog.revision().0, items, next }))
}

pub(super) async fn show(
    State(hub): State<Hub>,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Json<Document>, ApiError> {
    kind_of(&kind)?.read(&hub.catalog(), &name).map(Json).map_err(not_there)
}

pub(super) async fn remove(
    State(hub): State<Hub>,
    actor: Actor,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let kind = kind_of(&kind)?;
    let command = kind.removal(&name)?;
    change(&hub, &actor, command).await.map_err(not_there)?;
    tracing::info!(kind = kind.name(), name, by = actor.0, "resource deleted");
    Ok(Json(json!({})))
}

pub(super) async fn apply(
    State(hub): State<Hub>,
    actor: Actor,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Applied>, Refused> {
    let request = read(body)?;
    // what is compared with has to be current, or a change that was just made would be taken back unnoticed
    let catalog = hub.registry.current().await.map_err(ApiError::from)?;
    let ground = Ground {
        catalog,
        own: hub.node.cluster().name.clone(),
        now: causeway_runtime::clock::unix_now(),
        by: actor.0.clone(),
    };
    let dry_run = request.dry_run;
    let planning = tokio::task::spawn_blocking(move || plan::plan(&ground, &request.documents));
    let planned = planning.await.map_err(|error| ApiError::of("internal", error))?;
    let plans = planned.map_err(Refused::mistaken)?;
    if dry_run {
        return Ok(Json(Applied { documents: plans.iter().map(Planned::shown).collect() }));
    }
    Ok(Json(run::run(&hub, &actor, plans).await?))
}

fn read(body: Result<Bytes, BytesRejection>) -> Result<Apply, ApiError> {
    let bytes = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format!("the documents have more than {MAX_BODY} bytes: apply them in parts");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message)
        }
        _ => ApiError::invalid("body", rejection.body_text()),
    })?;
    serde_json::from_slice(&bytes).map_err(|error| ApiError::invalid("body", error))
}

/// Why documents were not applied.
pub(super) struct Refused {
    status: StatusCode,
    problem: Box<ApplyProblem>,
}

impl Refused {
    fn mistaken(found: faults::Found) -> Self {
        let (count, told) = (found.count, found.mistakes.len());
        let more = if count > told { format!(", of which {told} are told") } else { String::new() };
        let s = if count == 1 { "" } else { "s" };
        let message = format!("{count} mistake{s} in the documents{more}; nothing was changed");
        let problem = ApplyProblem {
            reason: "invalid-documents".to_owned(),
            message,
            mistakes: found.mistakes,
            documents: Vec::new(),
        };
        Self { status: StatusCode::BAD_REQUEST, problem: Box::new(problem) }
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        let problem = ApplyProblem {
            reason: error.problem.reason,
            message: error.problem.message,
            ..ApplyProblem::default()
        };
        Self { status: error.status, problem: Box::new(problem) }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(self.problem)).into_response()
    }
}
