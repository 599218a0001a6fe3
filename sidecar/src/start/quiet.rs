//! The last moment of a sidecar that stops: nobody opens streams on it any more.
//!
//! A caller that has not heard of the drain is refused, and tries another endpoint. One whose stream has no answer when the connection
//! ends must not try again, for its application may have been heard. So a connection ends only once no stream has come for a while.

use crate::access::Direction;
use crate::metrics::SidecarMetrics;
use prometheus_client::metrics::counter::Counter;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

/// How long no stream may have come.
const QUIET: Duration = Duration::from_millis(100);
/// Into how many looks that is parted. A thread that has had no time for long looks once before it sees what has come meanwhile.
const LOOKS: u32 = 2;
/// How long that is waited for at most: callers that are far have had time to hear of the drain by then.
const MOST: Duration = Duration::from_secs(2);

/// Knows when streams come.
#[derive(Clone, Debug)]
pub(super) struct Quiet {
    streams: Counter,
}

impl Quiet {
    /// Of the inbound streams that `metrics` count.
    pub(super) fn new(metrics: &SidecarMetrics) -> Self {
        Self { streams: metrics.direction(Direction::Inbound).connections.clone() }
    }

    /// Waits until no stream has come for a while, for two seconds at most. `data` is where they come: while it has no time for them,
    /// it has none for this either.
    pub(super) async fn wait(&self, data: &Handle) {
        let waiting = data.spawn(self.clone().look());
        if timeout(MOST, waiting).await.is_err() {
            tracing::debug!("callers still open streams, which may break");
        }
    }

    async fn look(self) {
        let (mut before, mut quiet) = (self.streams.get(), 0);
        while quiet < LOOKS {
            sleep(QUIET / LOOKS).await;
            let now = self.streams.get();
            quiet = if now == before { quiet + 1 } else { 0 };
            before = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    async fn waits(callers: Duration) -> Duration {
        let quiet = Quiet::new(&SidecarMetrics::new());
        let (streams, began) = (quiet.streams.clone(), Instant::now());
        tokio::spawn(async move {
            while began.elapsed() < callers {
                streams.inc();
                sleep(QUIET / 4).await;
            }
        });
        quiet.wait(&Handle::current()).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_a_moment_after_the_last_stream_and_does_not_wait_for_ever() {
        let short = waits(Duration::ZERO).await;
        assert!(short >= QUIET && short < 3 * QUIET, "{short:?}");
        let after = Duration::from_secs(1);
        let long = waits(after).await;
        assert!(long >= after && long < after + 3 * QUIET, "{long:?}");
        assert_eq!(waits(2 * MOST).await, MOST);
    }
}
