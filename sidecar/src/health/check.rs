//! One check: a connection to the application, and over it perhaps a request.

use super::verdict::Sign;
use crate::config::StatusRange;
use crate::inbound::Delivery;
use bytes::Bytes;
use causeway_model::ServiceName;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::fmt;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How the application's log sees a check.
const AGENT: &str = concat!("causeway-health/", env!("CARGO_PKG_VERSION"));
/// The most that is read of an answer before its headers are complete, in bytes.
const MAX_HEAD: usize = 64 << 10;

/// What a check does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// It connects.
    Tcp,
    /// It asks.
    Http {
        /// For what.
        path: String,
        /// Of whom.
        host: String,
        /// The answers that will do.
        expect: StatusRange,
    },
}

/// What came of a check.
#[derive(Debug)]
pub(super) enum Outcome {
    Passed,
    /// It could not be connected to.
    NotConnected(io::Error),
    /// It answered with this status.
    Status(u16, StatusRange),
    /// It did not answer, or not in HTTP.
    NoAnswer(hyper::Error),
    /// It took too long.
    Late(Duration),
    /// What was to be asked cannot be.
    NotAsked(hyper::http::Error),
}

impl Outcome {
    /// What it shows.
    pub(super) fn sign(&self) -> Sign {
        match self {
            Self::Passed => Sign::Passed,
            Self::NotConnected(error) if error.kind() == ErrorKind::ConnectionRefused => Sign::Refused,
            _ => Sign::Failed,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("the check passed"),
            Self::NotConnected(error) => write!(f, "it cannot be connected to: {error}"),
            Self::Status(status, expect) => write!(f, "it answered with status {status}, not {expect}"),
            Self::NoAnswer(error) => write!(f, "it did not answer over HTTP/1.1: {error}"),
            Self::Late(limit) => write!(f, "the check was not done within {limit:?}"),
            Self::NotAsked(error) => write!(f, "the check cannot be made: {error}"),
        }
    }
}

/// Checks `port` of `service` once, within `limit`.
pub(super) async fn check(
    delivery: &Delivery,
    (service, port): (&ServiceName, u16),
    how: &How,
    limit: Duration,
) -> Outcome {
    let check = async {
        let tcp = match delivery.probe(service, port).await {
            Ok(tcp) => tcp,
            Err(error) => return Outcome::NotConnected(error),
        };
        match how {
            How::Tcp => Outcome::Passed,
            How::Http { path, host, expect } => match ask(tcp, path, host).await {
                Ok(status) if expect.contains(status.as_u16()) => Outcome::Passed,
                Ok(status) => Outcome::Status(status.as_u16(), *expect),
                Err(outcome) => outcome,
            },
        }
    };
    timeout(limit, check).await.unwrap_or(Outcome::Late(limit))
}

/// The status with which the application answers; its body is not read.
async fn ask(tcp: TcpStream, path: &str, host: &str) -> Result<StatusCode, Outcome> {
    let request = Request::get(path).header(HOST, host).header(USER_AGENT, AGENT).header(CONNECTION, "close");
    let request = request.body(Empty::<Bytes>::new()).map_err(Outcome::NotAsked)?;
    let mut http = http1::Builder::new();
    let made = http.max_buf_size(MAX_HEAD).handshake(TokioIo::new(tcp)).await;
    let (mut sender, connection) = made.map_err(Outcome::NoAnswer)?;
    let mut answer = pin!(sender.send_request(request));
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        // a short answer may be complete with the end of the connection
        _ = connection => answer.await,
    };
    answer.map(|answer| answer.status()).map_err(Outcome::NoAnswer)
}
