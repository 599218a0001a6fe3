//! The load that a tour puts on the mesh: many requests at once, a download, and streams that show every gap.

mod streams;
mod tally;

pub(super) use tally::Tally;

use super::http::Connection;
use super::plan::Cluster;
use super::stall::Reads;
use super::wait;
use anyhow::{Result, anyhow, bail};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use streams::{download, ticks};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How many requests are in flight at any time, half of them each way.
pub(super) const REQUESTS: usize = 1000;
/// How long the service takes for each of them, in milliseconds: what keeps them in flight.
pub(super) const SERVICE_MS: u64 = 500;
/// The size of the download, in bytes.
pub(super) const DOWNLOAD: u64 = 200_000_000;
/// How fast it goes at most, in bytes a second: slow enough that both kills happen during it.
pub(super) const RATE: u64 = 25_000_000;
/// How many streams look for gaps, from iad to phx and back.
const TICKERS: [usize; 2] = [4, 2];
/// How long the whole load may take to run.
const RAMP: Duration = Duration::from_secs(20);
/// How long the download may take in all.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(40);
/// How long what runs may take to end.
const STOP: Duration = Duration::from_secs(15);

/// A load that runs.
#[derive(Debug)]
pub(super) struct Load {
    began: Instant,
    stop: CancellationToken,
    tally: Arc<Tally>,
    requests: Vec<JoinHandle<()>>,
    tickers: Vec<JoinHandle<Result<Reads>>>,
    download: JoinHandle<Result<Reads>>,
}

/// What came of a load.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) tally: Arc<Tally>,
    /// The streams that look for gaps, those that broke as errors.
    pub(super) ticks: Vec<Result<Reads>>,
    pub(super) download: Result<Reads>,
}

impl Load {
    /// Starts it, and returns when every request loop has had an answer and the download has begun.
    pub(super) async fn start() -> Result<Self> {
        let (began, stop) = (Instant::now(), CancellationToken::new());
        let tally = Arc::new(Tally::default());
        let requests = (0..REQUESTS).map(|index| {
            let to = Cluster::BOTH[index % 2].entrance();
            // spread over the time that a request takes, as they would be in life
            let delay = Duration::from_millis(SERVICE_MS) * u32::try_from(index).unwrap_or(0) / 1000;
            tokio::spawn(request_loop(to, delay, stop.clone(), tally.clone()))
        });
        let requests: Vec<_> = requests.collect();
        let ramp = wait::until("every request loop has had an answer", RAMP, async || match tally.loops() {
            REQUESTS => Ok(()),
            loops => Err(format!("{loops} of {REQUESTS}; {}", tally.errors()).into()),
        });
        if let Err(error) = ramp.await {
            stop.cancel();
            return Err(error);
        }
        let entrances = Cluster::BOTH.into_iter().zip(TICKERS);
        let tickers = entrances.flat_map(|(cluster, count)| vec![cluster.entrance(); count]);
        let tickers = tickers.map(|to| tokio::spawn(ticks(to, began, stop.clone()))).collect();
        let download = tokio::spawn(download(Cluster::Iad.entrance(), began));
        Ok(Self { began, stop, tally, requests, tickers, download })
    }

    /// The time since the load began, as its reads have it.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether the download still goes on.
    pub(super) fn is_downloading(&self) -> bool {
        !self.download.is_finished()
    }

    /// Waits for the end of the download and ends the rest.
    pub(super) async fn finish(mut self) -> Outcome {
        let download = match timeout(DOWNLOAD_LIMIT, &mut self.download).await {
            Ok(joined) => joined.unwrap_or_else(|error| Err(error.into())),
            Err(_) => Err(anyhow!("the download did not end within {DOWNLOAD_LIMIT:?}")),
        };
        self.stop.cancel();
        let mut ticks = Vec::new();
        for ticker in std::mem::take(&mut self.tickers) {
            ticks.push(match timeout(STOP, ticker).await {
                Ok(joined) => joined.unwrap_or_else(|error| Err(error.into())),
                Err(_) => Err(anyhow!("a stream did not end within {STOP:?}")),
            });
        }
        let deadline = tokio::time::Instant::now() + STOP;
        for request in std::mem::take(&mut self.requests) {
            if tokio::time::timeout_at(deadline, request).await.is_err() {
                self.tally.failed("a request had no end".to_owned());
            }
        }
        Outcome { tally: self.tally.clone(), ticks, download }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.cancel();
        self.download.abort();
    }
}

/// One request after another over a connection that stays open.
async fn request_loop(to: SocketAddr, delay: Duration, stop: CancellationToken, tally: Arc<Tally>) {
    sleep(delay).await;
    let mut connection = None;
    let mut first = true;
    while !stop.is_cancelled() {
        let start = Instant::now();
        match request(&mut connection, to).await {
            Ok(()) => {
                tally.done(start.elapsed());
                if std::mem::take(&mut first) {
                    tally.loop_runs();
                }
            }
            Err(error) => {
                connection = None;
                tally.failed(format!("{error:#}"));
                // a mesh that is down is not to be asked as fast as it goes
                sleep(Duration::from_millis(SERVICE_MS)).await;
            }
        }
    }
}

async fn request(connection: &mut Option<Connection>, to: SocketAddr) -> Result<()> {
    let open = match connection.take() {
        Some(open) => connection.insert(open),
        None => connection.insert(Connection::open(to).await?),
    };
    let answer = open.get(&format!("/wait/{SERVICE_MS}")).await?;
    if answer.status != 200 || answer.body != SERVICE_MS.to_string().as_bytes() {
        bail!("a wrong answer: HTTP {}, {} bytes", answer.status, answer.body.len());
    }
    Ok(())
}

/// This many requests one after another, each over a new connection; the endpoints that answered.
pub(super) async fn fresh_requests(to: SocketAddr, count: usize) -> Result<Vec<String>> {
    let mut endpoints = Vec::new();
    for number in 1..=count {
        let said = super::http::text(to, "/")
            .await
            .map_err(|error| error.context(format!("request {number} of {count}")))?;
        let endpoint = said.split("endpoint ").nth(1).and_then(|rest| rest.split(',').next());
        endpoints.extend(endpoint.map(str::to_owned));
    }
    Ok(endpoints)
}
