//! The telemetry server: metrics and health over plain HTTP on a listener of its own, so that neither needs a
//! credential nor shares a port with anything that does.
//!
//! Owns the three paths `/metrics`, `/live` and `/ready`. What is measured and what readiness waits for comes from
//! elsewhere. Whoever reaches the listener may read: bind it where only operators do.

use crate::bind::{BindError, bind_error, bind_tcp};
use crate::connections::{Limit, bounded, until_cancelled};
use crate::metrics::{self, Metrics};
use crate::readiness::Readiness;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use axum_server::Handle;
use serde::Serialize;
use std::io;
use std::net::{SocketAddr, TcpListener};
use tokio_util::sync::CancellationToken;

/// Scrapers and probes are few.
const CONNECTIONS: usize = 64;

/// A bound telemetry server that does not serve yet.
#[derive(Debug)]
pub struct TelemetryServer {
    listener: TcpListener,
    addr: SocketAddr,
    metrics: Metrics,
    readiness: Readiness,
}

/// The answer of `/ready`: 200 when ready, 503 when not.
#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    pending: Vec<String>,
}

impl TelemetryServer {
    /// Listens on `addr` (flag `--telemetry`); port 0 lets the system choose.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn bind(addr: SocketAddr, metrics: Metrics, readiness: Readiness) -> Result<Self, BindError> {
        const WHAT: (&str, &str) = ("telemetry", "--telemetry");
        let listener = bind_tcp(WHAT.0, WHAT.1, addr)?;
        Self::on(listener, metrics, readiness).map_err(|source| bind_error(WHAT.0, WHAT.1, addr, source))
    }

    /// Uses a non-blocking listener that is bound already.
    ///
    /// # Errors
    /// It does not say where it is bound.
    pub fn on(listener: TcpListener, metrics: Metrics, readiness: Readiness) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr, metrics, readiness })
    }

    /// The address that it listens on, with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `token` is cancelled and the requests in flight are answered (5 s at most).
    ///
    /// # Errors
    /// The listener cannot be used from this runtime.
    pub async fn serve(self, token: CancellationToken) -> io::Result<()> {
        let router = Router::new()
            .route("/metrics", get(scrape).with_state(self.metrics))
            .route("/live", get(|| async { "alive\n" }))
            .route("/ready", get(ready).with_state(self.readiness));
        let handle = Handle::new();
        let server = axum_server::from_tcp(self.listener)?.acceptor(Limit::new(CONNECTIONS));
        let serving = bounded(server, &handle).serve(router.into_make_service());
        until_cancelled(serving, handle, token).await
    }
}

async fn scrape(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.encode())
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    let pending = readiness.pending();
    let status = if pending.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready: pending.is_empty(), pending })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(20);

    struct Telemetry {
        addr: SocketAddr,
        readiness: Readiness,
        token: CancellationToken,
        serving: JoinHandle<io::Result<()>>,
    }

    fn start() -> Telemetry {
        let (readiness, token) = (Readiness::new(), CancellationToken::new());
        let server =
            TelemetryServer::bind("127.0.0.1:0".parse().unwrap(), Metrics::new(), readiness.clone()).unwrap();
        let addr = server.local_addr();
        Telemetry { addr, readiness, serving: tokio::spawn(server.serve(token.clone())), token }
    }

    async fn request(addr: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn the_three_paths_answer() {
        let telemetry = start();
        let metrics = request(telemetry.addr, "/metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
        assert!(metrics.contains("application/openmetrics-text"), "{metrics}");
        assert!(metrics.contains("process_cpu_seconds_total"), "{metrics}");
        assert!(request(telemetry.addr, "/live").await.ends_with("\r\n\r\nalive\n"));
        assert!(request(telemetry.addr, "/other").await.starts_with("HTTP/1.1 404"));

        let guard = telemetry.readiness.block("tables");
        let waiting = request(telemetry.addr, "/ready").await;
        assert!(waiting.starts_with("HTTP/1.1 503"), "{waiting}");
        assert!(waiting.ends_with(r#"{"ready":false,"pending":["tables"]}"#), "{waiting}");
        drop(guard);
        let ready = request(telemetry.addr, "/ready").await;
        assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
        assert!(ready.ends_with(r#"{"ready":true,"pending":[]}"#), "{ready}");

        telemetry.token.cancel();
        timeout(SOON, telemetry.serving).await.unwrap().unwrap().unwrap();
        assert!(TcpStream::connect(telemetry.addr).await.is_err());
    }

    #[tokio::test]
    async fn connections_are_bounded_and_freed() {
        let telemetry = start();
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(telemetry.addr).await.unwrap();
            stream.write_all(b"GET /live HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).await.unwrap();
            held.push(stream);
        }
        let mut refused = TcpStream::connect(telemetry.addr).await.unwrap();
        let end = timeout(SOON, refused.read(&mut [0; 16])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        drop(held);
        timeout(SOON, async {
            while !try_request(telemetry.addr).await {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }

    /// Whether the server took a connection and answered it.
    async fn try_request(addr: SocketAddr) -> bool {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let sent = stream.write_all(b"GET /live HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
        let mut answer = Vec::new();
        sent.is_ok() && stream.read_to_end(&mut answer).await.is_ok() && !answer.is_empty()
    }

    #[tokio::test]
    async fn an_idle_connection_does_not_hold_up_the_end() {
        let telemetry = start();
        let mut idle = TcpStream::connect(telemetry.addr).await.unwrap();
        assert!(request(telemetry.addr, "/live").await.starts_with("HTTP/1.1 200"));
        telemetry.token.cancel();
        timeout(SOON, telemetry.serving).await.unwrap().unwrap().unwrap();
        assert_eq!(idle.read(&mut [0; 1]).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn a_taken_port_names_the_flag() {
        let telemetry = start();
        let error = TelemetryServer::bind(telemetry.addr, Metrics::new(), Readiness::new()).unwrap_err();
        assert_eq!(error.reason(), "address_in_use");
        assert!(error.to_string().ends_with("choose another address with --telemetry"), "{error}");
    }
}
