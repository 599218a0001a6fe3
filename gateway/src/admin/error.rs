//! What a request that failed is answered: a status and a [`Problem`].
//!
//! The words (`reason`) are those of whoever refused; this file only says which HTTP status goes with which of them.

use super::api::Problem;
use crate::links::LinkError;
use crate::tokens::TokenFault;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use causeway_catalog::Refusal;
use causeway_store::ProposeError;
use causeway_wire::token::TokenError;
use std::fmt::Display;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) problem: Problem,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, reason: &str, message: impl Into<String>) -> Self {
        Self { status, problem: Problem { reason: reason.to_owned(), message: message.into() } }
    }

    /// A part of the request is not what it must be.
    pub(super) fn invalid(field: &str, cause: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-request", format!("{field}: {cause}"))
    }

    /// A failure whose word decides the status.
    pub(super) fn of(reason: &str, message: impl Display) -> Self {
        Self::new(status_of(reason), reason, message.to_string())
    }
}

/// The status that goes with a word. What no list names contradicts the state that the registry is in.
fn status_of(reason: &str) -> StatusCode {
    match reason {
        "root-unknown" | "not-revoked" | "token-unknown" | "service-unknown" | "invite-unknown"
        | "link-unknown" | "gateway-unknown" | "epoch-unknown" | "not-exported" => StatusCode::NOT_FOUND,
        "invalid-value"
        | "identity-foreign"
        | "identity-not-a-workload"
        | "export-to-self"
        | "too-large"
        | "token-kind"
        | "token-damaged"
        | "token-content" => StatusCode::BAD_REQUEST,
        "no-quorum" | "not-initialised" | "not-ready" => StatusCode::SERVICE_UNAVAILABLE,
        "link-unreachable" | "link-introduction" | "link-half-made" => StatusCode::BAD_GATEWAY,
        "timeout" | "link-unconfirmed" => StatusCode::GATEWAY_TIMEOUT,
        "registry-failed" | "internal" | "crypto" => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::CONFLICT,
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::of(refusal.reason(), refusal)
    }
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        Self::of(error.reason(), error)
    }
}

impl From<LinkError> for ApiError {
    fn from(error: LinkError) -> Self {
        Self::of(error.reason(), error)
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        Self::of(error.reason(), error)
    }
}

impl From<TokenFault> for ApiError {
    fn from(fault: TokenFault) -> Self {
        match fault.field() {
            Some(field) => Self::invalid(field, fault),
            None => Self::of(fault.reason(), fault),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.problem)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_the_catalog_is_a_clients_error_or_says_to_wait() {
        for reason in Refusal::REASONS {
            let status = status_of(reason);
            let expected = match *reason {
                "not-initialised" => 503,
                "invalid-value" | "identity-foreign" | "identity-not-a-workload" | "export-to-self" => 400,
                "not-exported" | "not-revoked" => 404,
                reason if reason.ends_with("-unknown") => 404,
                _ => 409,
            };
            assert_eq!(status.as_u16(), expected, "{reason}");
        }
    }

    #[test]
    fn without_a_quorum_the_answer_says_so() {
        let error = ApiError::from(ProposeError::NoLeader { answering: 1, voters: 3 });
        assert_eq!((error.status.as_u16(), error.problem.reason.as_str()), (503, "no-quorum"));
        assert!(error.problem.message.contains("1 of 3 voters answer"), "{}", error.problem.message);
        let unknown = ApiError::from(ProposeError::Timeout { cause: "it took too long".into() });
        assert_eq!((unknown.status.as_u16(), unknown.problem.reason.as_str()), (504, "timeout"));
        let refused = ProposeError::Refused(Refusal::LinkUnknown { cluster: "phx".parse().unwrap() });
        assert_eq!(ApiError::from(refused).status, StatusCode::NOT_FOUND);
    }

    #[test]
    fn failures_of_links_have_a_status() {
        let cluster: causeway_model::ClusterName = "phx".parse().unwrap();
        let status = |error: LinkError| ApiError::from(error).status.as_u16();
        assert_eq!(status(LinkError::NotReady), 503);
        assert_eq!(status(LinkError::NoAddress), 409);
        assert_eq!(status(LinkError::Unreachable { cluster, tried: "nothing".into() }), 502);
    }
}
