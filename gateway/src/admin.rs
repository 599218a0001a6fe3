//! The admin API: HTTPS and JSON for the command line, dashboards and GitOps.
//!
//! This module owns what operators may ask and how they are answered; what they ask and get is in [`api`], with a handler
//! file for each topic. It decides nothing about the cluster itself: intent is changed through the registry, and everything else is
//! read from the hub. Who may ask at all is decided here, by one bearer credential; TLS is the caller's.

pub mod api;
mod authority;
mod check;
mod error;
mod exports;
mod extract;
pub(crate) mod findings;
mod gateways;
#[cfg(test)]
mod golden;
mod links;
#[cfg(test)]
mod live;
mod resources;
mod services;
mod status;
#[cfg(test)]
mod tests;
mod tokens;
mod workloads;

use crate::hub::Hub;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use causeway_catalog::{Command, CommandBody};
use causeway_store::Proposed;
use error::ApiError;
use extract::Actor;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// The largest body of a request, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// How long an answer waits for this replica to see the change that was just made.
const CATCH_UP: Duration = Duration::from_secs(2);

/// The admin API of `hub` for whoever shows `credential`.
pub(crate) fn router(hub: Hub, credential: String) -> Router {
    let routes = Router::new()
        .route("/v1/status", get(status::show))
        .route("/v1/services", get(services::list))
        .route("/v1/services/{service}", get(services::show))
        .route("/v1/resolve/{service}", get(services::resolve))
        .route("/v1/workloads", get(workloads::list))
        .route("/v1/gateways", get(gateways::list))
        .route("/v1/gateways/{node}", get(gateways::show).delete(gateways::remove))
        .route("/v1/gateways/{node}/drain", put(gateways::drain))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{id}", delete(tokens::revoke))
        .route("/v1/links", get(links::list))
        .route("/v1/links/invite", post(links::invite))
        .route("/v1/links/accept", post(links::accept))
        .route("/v1/links/{cluster}", get(links::show).delete(links::remove))
        .route("/v1/links/{cluster}/pause", put(links::pause))
        .route("/v1/links/{cluster}/policy", put(links::policy))
        .route("/v1/exports", get(exports::list))
        .route("/v1/exports/{service}", put(exports::put).delete(exports::delete))
        .route("/v1/backup", get(backup))
        .route("/v1/ca", get(authority::show))
        .route("/v1/ca/rotate", post(authority::rotate))
        .route("/v1/ca/activate", post(authority::activate))
        .route("/v1/ca/roots/{root}", delete(authority::drop_root))
        .route(
            "/v1/revocations",
            get(authority::revocations).post(authority::revoke).delete(authority::reinstate),
        )
        .route("/v1/check", get(check::run))
        .route("/v1/apply", post(resources::apply).layer(DefaultBodyLimit::max(resources::MAX_BODY)))
        .route("/v1/resources/{kind}", get(resources::list))
        .route("/v1/resources/{kind}/{name}", get(resources::show).delete(resources::remove))
        .with_state(hub);
    guard(routes, credential)
}

/// What holds for every request: the credential, the size of bodies, and a [`api::Problem`] for whatever is not there.
fn guard(routes: Router, credential: String) -> Router {
    routes
        .fallback(no_path)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::<str>::from(credential), authorize))
}

async fn authorize(State(credential): State<Arc<str>>, request: Request, next: Next) -> Response {
    if is_authorized(request.headers(), &credential) {
        return next.run(request).await;
    }
    tracing::debug!(path = request.uri().path(), "a request to the admin API without the credential");
    let problem = ApiError::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "the credential is missing or not this cluster's: use the context that the cluster's first gateway wrote (--context), \
         or give its credential with --credential; over HTTP it is the header `Authorization: Bearer CREDENTIAL`",
    );
    let mut response = problem.into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Whether the request shows `credential`. How long the comparison takes says nothing of where the two differ.
fn is_authorized(headers: &HeaderMap, credential: &str) -> bool {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else { return false };
    let Some((scheme, shown)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else {
        return false;
    };
    let equal = shown.trim().as_bytes().ct_eq(credential.as_bytes());
    scheme.eq_ignore_ascii_case("bearer") && !credential.is_empty() && bool::from(equal)
}

async fn no_path(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(128).collect();
    let message = format!(
        "this gateway has no {method} {path}: compare the path with the API's description, and its release ({}) with yours",
        status::release()
    );
    ApiError::new(StatusCode::NOT_FOUND, "no-such-path", message)
}

async fn no_method(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(128).collect();
    let message = format!("{path} does not take {method}: the header Allow says what it takes");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", message)
}

/// The registry as one file, as the leader has it.
async fn backup(State(hub): State<Hub>, actor: Actor) -> Result<Response, ApiError> {
    let current = hub.registry.current().await?;
    let _ = hub.registry.wait_applied(current.revision(), CATCH_UP).await;
    let registry = hub.registry.clone();
    let made = tokio::task::spawn_blocking(move || registry.backup()).await;
    let bytes = made
        .map_err(|error| ApiError::of("internal", error))?
        .map_err(|error| ApiError::of(error.reason(), error))?;
    tracing::info!(bytes = bytes.len(), by = actor.0, "a backup was taken");
    Ok(([(CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

/// Makes a change of intent, and waits a little until this replica shows it.
async fn change(hub: &Hub, by: &Actor, body: impl Into<CommandBody>) -> Result<Proposed, ApiError> {
    make(hub, crate::hub::command(&by.0, body)).await
}

/// As [`change`], of a command that is written already.
async fn make(hub: &Hub, command: Command) -> Result<Proposed, ApiError> {
    let proposed = hub.registry.propose(command).await?;
    if let Err(lagging) = hub.registry.wait_applied(proposed.revision, CATCH_UP).await {
        // the change stands; only what is read here shows it later
        tracing::debug!(%lagging, "a change was made that this replica does not show yet");
    }
    Ok(proposed)
}
