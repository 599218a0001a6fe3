//! The parts of a request, each refused with a [`super::api::Problem`] that names what is wrong.

use super::error::ApiError;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;

/// The body, as JSON, whatever its content type says.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes =
            Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    let message =
                        format!("the body has more than {} bytes, which no request needs", super::MAX_BODY);
                    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message)
                }
                _ => ApiError::invalid("body", rejection.body_text()),
            })?;
        match Json::<T>::from_bytes(&bytes) {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(ApiError::invalid("body", cause(&rejection.body_text()))),
        }
    }
}

/// The query.
pub(super) struct Ask<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Ask<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(ApiError::invalid("query", cause(&rejection.body_text()))),
        }
    }
}

/// The variable part of the path.
pub(super) struct Segment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(segment)) => Ok(Self(segment)),
            Err(rejection) => Err(ApiError::invalid("path", rejection.body_text())),
        }
    }
}

/// Who asks, for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Actor(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Actor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let from = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Self(from.map_or_else(
            || "operator".to_owned(),
            |from| format!("operator at {}", from.0.ip().to_canonical()),
        )))
    }
}

/// What axum says before the cause is about its own types.
fn cause(text: &str) -> &str {
    text.split_once(": ").map_or(text, |(_, cause)| cause)
}

/// The value of `field`.
pub(super) fn parse<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|error| ApiError::invalid(field, error))
}

/// The value of `field`, if it was given.
pub(super) fn parse_if<T: FromStr<Err: Display>>(
    field: &str,
    text: Option<&str>,
) -> Result<Option<T>, ApiError> {
    text.map(|text| parse(field, text)).transpose()
}

/// A time in seconds, `default` unless given.
pub(super) fn seconds(field: &str, given: Option<u64>, default: u64, most: u64) -> Result<u64, ApiError> {
    match given.unwrap_or(default) {
        seconds if (1..=most).contains(&seconds) => Ok(seconds),
        seconds => {
            Err(ApiError::invalid(field, format!("{seconds} s is out of bounds: give 1 to {most} seconds")))
        }
    }
}
