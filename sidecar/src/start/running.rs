//! A sidecar that runs, and how it ends: nothing new first, then what is open, then the goodbye.

use super::data::DataThread;
use super::quiet::Quiet;
use crate::config::ListenSpec;
use crate::turn::Turn;
use causeway_client::Control;
use causeway_model::{ClusterFacts, SpiffeId, WorkloadId};
use causeway_runtime::{DrainTrigger, Failure, Metrics, Readiness, Tasks};
use causeway_transport::OverlayEndpoint;
use causeway_wire::CloseCode;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long connections may take to say goodbye at the end.
const CLOSING: Duration = Duration::from_secs(1);
/// How long a sidecar that stops still takes streams: until then callers everywhere have heard that it drains, and the instance
/// that takes its place is known.
const LINGER: Duration = Duration::from_secs(1);
/// How long tasks may take to end.
const ENDING: Duration = Duration::from_secs(3);

/// A sidecar that runs. Dropping it cuts everything short; [`RunningSidecar::shutdown`] does not.
#[derive(Debug)]
pub struct RunningSidecar {
    pub(super) overlay: SocketAddr,
    pub(super) listen: Vec<(ListenSpec, SocketAddr)>,
    pub(super) dns: Vec<SocketAddr>,
    pub(super) telemetry: Option<SocketAddr>,
    pub(super) workload: WorkloadId,
    pub(super) cluster: ClusterFacts,
    pub(super) identity: SpiffeId,
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
    pub(super) control: Control,
    pub(super) endpoint: OverlayEndpoint,
    pub(super) drain: DrainTrigger,
    /// Whether there are services that others call.
    pub(super) serves: bool,
    pub(super) turn: Turn,
    /// Cuts the applications' connections that are left.
    pub(super) cut: CancellationToken,
    pub(super) quiet: Quiet,
    pub(super) tasks: Tasks,
    pub(super) data: DataThread,
    /// Ends every task.
    pub(super) _end: DropGuard,
}

impl RunningSidecar {
    /// The address of the overlay socket.
    pub fn overlay_addr(&self) -> SocketAddr {
        self.overlay
    }

    /// The listeners in the order of the configuration, each with the address that it is bound to.
    pub fn listen_addrs(&self) -> &[(ListenSpec, SocketAddr)] {
        &self.listen
    }

    /// Where questions for names are answered.
    pub fn dns_addrs(&self) -> &[SocketAddr] {
        &self.dns
    }

    /// The address of the telemetry server, if there is one.
    pub fn telemetry_addr(&self) -> Option<SocketAddr> {
        self.telemetry
    }

    /// The instance id of this start.
    pub fn workload(&self) -> WorkloadId {
        self.workload
    }

    /// The cluster.
    pub fn cluster(&self) -> &ClusterFacts {
        &self.cluster
    }

    /// The identity, as of the start.
    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// Its metrics, as the telemetry server shows them.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What it waits for.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Resolves once it is registered and takes traffic.
    pub async fn wait_ready(&self) {
        self.readiness.wait().await;
    }

    /// Resolves when a part has failed for good; [`RunningSidecar::failure`] says which.
    pub async fn failed(&self) {
        self.tasks.cancelled().await;
    }

    /// The part that failed for good, if one did.
    pub fn failure(&self) -> Option<Failure> {
        self.tasks.failure()
    }

    /// Resolves when another process has taken the listeners over: it is time to [shut down](Self::shutdown).
    pub async fn taken_over(&self) {
        self.turn.over().await;
    }

    /// Takes no more connections of the application and, once its callers have heard of it, no more streams; gives those that are open `grace` to finish, says goodbye and ends. Takes at most `grace` and about
    /// seven seconds.
    pub async fn shutdown(self, grace: Duration) {
        self.readiness.fail("draining", "the sidecar is about to stop");
        self.control.drain();
        self.drain.begin();
        let linger = if self.serves { LINGER.min(grace) } else { Duration::ZERO };
        sleep(linger).await;
        let outcome = self.drain.drain(grace.saturating_sub(linger)).await;
        if !outcome.finished {
            tracing::warn!(
                left = outcome.left,
                ?grace,
                "connections are still open after the drain and are cut"
            );
        }
        if self.serves && !grace.is_zero() {
            self.quiet.wait(self.data.handle()).await;
        }
        self.cut.cancel();
        self.control.goodbye().await;
        self.endpoint.close(CloseCode::GoingAway, "the sidecar has stopped");
        if timeout(CLOSING, self.endpoint.wait_idle()).await.is_err() {
            tracing::debug!("not every peer heard the goodbye");
        }
        // who is alive after that is logged by name
        let _ = self.tasks.shutdown(ENDING).await;
        self.data.stop().await;
    }
}
