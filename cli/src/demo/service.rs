//! The workloads of the demo: small HTTP services on loopback ports, on a thread and a runtime of their own.
//!
//! | path | answer |
//! | --- | --- |
//! | `/`, or any other | who answers, and where it runs |
//! | `/bytes/N?rate=R` | N bytes that can be checked, R bytes a second at most |
//! | `/wait/MS` | the same number, that many milliseconds later |
//! | `/ticks/N` | N numbers of 8 bytes, from 0 up, one every 2 ms |
//! | `/echo` | what was sent |

use super::content;
use super::plan::SidecarPlan;
use super::stall::TICK;
use anyhow::{Context, Result, anyhow};
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderMap, Uri, header::CONTENT_LENGTH};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Router, serve};
use futures_util::stream::{Stream, unfold};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// How much of a download is made at once, in bytes.
const PIECE: u64 = 64 * 1024;
/// The longest that `/wait` waits, in milliseconds.
const LONGEST_WAIT: u64 = 60_000;

/// The running services.
#[derive(Debug)]
pub(super) struct Services {
    addrs: BTreeMap<SidecarPlan, SocketAddr>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Services {
    /// Starts a service for each sidecar, on ports that the system chooses.
    pub(super) fn start(sidecars: Vec<SidecarPlan>) -> Result<Self> {
        let stop = CancellationToken::new();
        let token = stop.clone();
        let (bound, addrs) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("services".into()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(bound.send(Err(error))),
            };
            runtime.block_on(async {
                let _ = bound.send(serve_all(&sidecars).await);
                token.cancelled().await;
            });
        })?;
        let addrs = addrs.recv().map_err(|_| anyhow!("the thread of the services ended"))?;
        Ok(Self { addrs: addrs.context("cannot serve on 127.0.0.1")?, stop, thread: Some(thread) })
    }

    /// Where the service beside a sidecar listens.
    pub(super) fn addr(&self, sidecar: SidecarPlan) -> Result<SocketAddr> {
        self.addrs.get(&sidecar).copied().with_context(|| format!("no service beside {}", sidecar.name()))
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve_all(sidecars: &[SidecarPlan]) -> std::io::Result<BTreeMap<SidecarPlan, SocketAddr>> {
    let mut addrs = BTreeMap::new();
    for &sidecar in sidecars {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        addrs.insert(sidecar, listener.local_addr()?);
        let listener = listener.tap_io(|stream| {
            // ticks are not to wait for each other
            let _ = stream.set_nodelay(true);
        });
        let app = router(sidecar).into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { serve(listener, app).await });
    }
    Ok(addrs)
}

fn router(sidecar: SidecarPlan) -> Router {
    Router::new()
        .route("/bytes/{count}", get(bytes))
        .route("/wait/{ms}", get(wait))
        .route("/ticks/{count}", get(ticks))
        .route("/echo", post(echo))
        .fallback(hello)
        .with_state(sidecar)
}

async fn hello(
    State(sidecar): State<SidecarPlan>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    uri: Uri,
) -> String {
    let cluster = sidecar.cluster;
    let (service, region, zone) = (cluster.service(), cluster.region(), cluster.zone());
    let (endpoint, path) = (sidecar.name(), uri.path());
    format!(
        "hello from {service} in {cluster} ({region}, {zone})\nendpoint {endpoint}, path {path}, called from {caller}\n"
    )
}

async fn echo(body: Bytes) -> Bytes {
    body
}

async fn wait(Path(ms): Path<u64>) -> String {
    sleep(Duration::from_millis(ms.min(LONGEST_WAIT))).await;
    ms.to_string()
}

/// How fast a download may be.
#[derive(Debug, Deserialize)]
struct Pace {
    /// In bytes a second; as fast as it goes unless given.
    rate: Option<u64>,
}

async fn bytes(Path(count): Path<u64>, Query(pace): Query<Pace>) -> Response {
    let start = Instant::now();
    let pieces = unfold(0, move |sent| async move {
        let len = usize::try_from(PIECE.min(count - sent)).ok().filter(|len| *len > 0)?;
        if let Some(rate) = pace.rate {
            sleep_until(start + due(sent, rate)).await;
        }
        let mut piece = vec![0; len];
        content::fill(sent, &mut piece);
        Some((Ok(Bytes::from(piece)), sent + len as u64))
    });
    streamed(count, pieces)
}

/// When the byte at `sent` is due, after the start.
fn due(sent: u64, rate: u64) -> Duration {
    let micros = u128::from(sent) * 1_000_000 / u128::from(rate.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

async fn ticks(Path(count): Path<u64>) -> Response {
    let ticks = unfold(0, move |tick: u64| async move {
        if tick == count {
            return None;
        }
        sleep(TICK).await;
        Some((Ok(Bytes::copy_from_slice(&tick.to_be_bytes())), tick + 1))
    });
    streamed(count.saturating_mul(8), ticks)
}

/// A body of this many bytes.
fn streamed(length: u64, pieces: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static) -> Response {
    let headers = HeaderMap::from_iter([(CONTENT_LENGTH, length.into())]);
    (headers, Body::from_stream(pieces)).into_response()
}

#[cfg(test)]
mod tests {
    use super::super::http::{self, Connection};
    use super::super::plan;
    use super::*;

    fn services() -> (Services, SocketAddr) {
        let services = Services::start(plan::sidecars()).unwrap();
        let addr = services.addr(plan::sidecars()[2]).unwrap();
        (services, addr)
    }

    #[tokio::test]
    async fn a_service_says_who_it_is() {
        let (_services, addr) = services();
        let said = http::text(addr, "/some/path").await.unwrap();
        assert!(said.starts_with("hello from payments.shop in phx (us-phoenix-1, AD-1)\n"), "{said}");
        assert!(said.contains("endpoint payments-2, path /some/path, called from 127.0.0.1:"), "{said}");
        assert_eq!(http::text(addr, "/wait/3").await.unwrap(), "3");
    }

    #[tokio::test]
    async fn a_download_is_whole_and_can_be_checked() {
        let (_services, addr) = services();
        let answer = http::get(addr, "/bytes/200001").await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 200_001));
        assert_eq!(content::first_wrong(0, &answer.body), None);
        assert_eq!(http::get(addr, "/bytes/0?rate=1").await.unwrap().body, b"");
    }

    #[tokio::test]
    async fn ticks_count_up() {
        let (_services, addr) = services();
        let mut connection = Connection::open(addr).await.unwrap();
        let answer = connection.get("/ticks/20").await.unwrap();
        let numbers: Vec<_> =
            answer.body.chunks(8).map(|tick| u64::from_be_bytes(tick.try_into().unwrap())).collect();
        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn a_pace_is_kept() {
        assert_eq!(due(50_000_000, 25_000_000), Duration::from_secs(2));
        assert_eq!(due(10, 0), Duration::from_secs(10));
    }
}
