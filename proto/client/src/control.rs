//! The control connections of a running sidecar, and what they brought.
//!
//! [`Control`] is the face: it answers from memory and never waits for a gateway, except where a virtual address is asked for the first
//! time. Behind it a supervisor keeps sessions with
//! two gateways, whose messages are merged into one picture, and small tasks renew the SVID, resolve the
//! gateways' names, save what was learned, and attach again when every gateway is lost. A sidecar whose SVID is revoked joins anew if it has a token;
//! otherwise the task "control-reattach" fails, and with it the process.

mod choose;
mod directory;
mod exports;
mod generations;
mod keeper;
mod own;
mod pace;
mod picture;
mod precedence;
mod reattach;
mod registration;
mod renewal;
mod session;
mod supervisor;
mod views;
mod vips;
mod watches;

pub use exports::Exports;
pub use picture::ControlState;
pub use registration::RegistrationError;
pub use views::Subscription;
pub use vips::VipError;
pub use watches::InstanceWatch;

use crate::bootstrap::Joined;
use crate::config::ControlConfig;
use causeway_identity::{BundleStore, SvidSource};
use causeway_model::{ClusterFacts, ClusterId, GatewayFacts, Health, ServiceName, Vip, VipName, WorkloadId};
use causeway_runtime::Tasks;
use causeway_transport::{Overlay, OverlayEndpoint};
use picture::Picture;
use session::Request;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use vips::Question;

/// How long a goodbye may take.
const GOODBYE_WITHIN: Duration = Duration::from_millis(500);

/// A running sidecar's face to its cluster. Clones are handles to the same.
#[derive(Clone)]
pub struct Control {
    picture: Arc<Picture>,
}

impl Control {
    /// Gives `overlay` its keys and gateways and keeps control connections over `endpoint` until `tasks` are cancelled. Call it
    /// on a tokio runtime; it is the one that control runs on.
    pub fn start(
        joined: Joined,
        endpoint: OverlayEndpoint,
        overlay: &Overlay,
        config: ControlConfig,
        tasks: &Tasks,
    ) -> Self {
        let gateways = config.gateways.clamp(1, 3);
        let (picture, enroller) = Picture::new(joined, overlay.clone(), config.metrics);
        let picture = Arc::new(picture);
        let token = tasks.token();
        tasks.spawn_critical("control-directory", directory::run(picture.clone(), token.clone()));
        let supervisor = supervisor::Supervisor::new(picture.clone(), endpoint, gateways, tasks.clone());
        tasks.spawn_critical("control-sessions", supervisor.run());
        tasks.spawn_critical("control-renewal", renewal::run(picture.clone(), token.clone()));
        tasks.spawn_critical("control-keeper", keeper::run(picture.clone(), token.clone()));
        tasks.spawn_critical("control-reattach", reattach::run(picture.clone(), enroller, token));
        Self { picture }
    }

    /// The sidecar's identity, renewed in time.
    pub fn svid(&self) -> SvidSource {
        self.picture.svid.clone()
    }

    /// Whom the sidecar believes: its own cluster and the linked ones.
    pub fn bundles(&self) -> BundleStore {
        self.picture.bundles.clone()
    }

    /// The sidecar's cluster.
    pub fn cluster(&self) -> ClusterFacts {
        self.picture.cluster.clone()
    }

    /// The sidecar's instance id, which is that of this start.
    pub fn workload(&self) -> WorkloadId {
        self.picture.workload
    }

    /// The cluster's gateways, as last learned.
    pub fn gateways(&self) -> watch::Receiver<Arc<Vec<GatewayFacts>>> {
        self.picture.gateways.subscribe()
    }

    /// Uses `service` until the last of its subscriptions is dropped. Known at once if it was in use before, else within a round
    /// trip. Beyond [`causeway_wire::ctl::MAX_SUBSCRIPTIONS`] services in use it learns nothing, which is logged and counted.
    pub fn subscribe(&self, service: &ServiceName) -> Subscription {
        self.picture.views.subscribe(service)
    }

    /// The virtual address of `name`: from memory, or from a gateway, within 2 s. It is the same on every sidecar of the cluster, and for
    /// ever; it says nothing of whether anybody offers the service now, which [`Control::subscribe`] tells. Call it on a tokio runtime.
    ///
    /// # Errors
    /// A [`VipError`] when the name is of no service, or no gateway could answer.
    pub async fn vip(&self, name: VipName) -> Result<Vip, VipError> {
        vips::resolve(&self.picture, Question::Name(name)).await.map(|(_, vip)| vip)
    }

    /// The virtual address of `name`, if it is remembered. Neither waits nor asks.
    pub fn known_vip(&self, name: &VipName) -> Option<Vip> {
        self.picture.vips.vip(name)
    }

    /// The names whose virtual addresses are remembered, from this start or an earlier one; what was learned last last. Neither waits
    /// nor asks.
    pub fn known_vips(&self) -> Vec<(VipName, Vip)> {
        self.picture.vips.known()
    }

    /// The name that `vip` was given to: from memory, or from a gateway, within 2 s. Call it on a tokio runtime.
    ///
    /// # Errors
    /// A [`VipError`] when it was given to none, or no gateway could answer.
    pub async fn vip_name(&self, vip: Vip) -> Result<VipName, VipError> {
        vips::resolve(&self.picture, Question::Address(vip)).await.map(|(name, _)| name)
    }

    /// To which trust domains the cluster's services that this workload serves are exported.
    pub fn exported(&self) -> watch::Receiver<Exports> {
        self.picture.exported.subscribe()
    }

    /// Watches an instance of any cluster until the guard is dropped. Beyond [`causeway_wire::ctl::MAX_WATCHED`] instances it
    /// learns nothing, which is counted; the idle timeout of the connection is the backstop.
    pub fn watch_instance(&self, cluster: ClusterId, workload: WorkloadId) -> InstanceWatch {
        self.picture.watches.watch(cluster, workload)
    }

    /// How the control connections are.
    pub fn state(&self) -> watch::Receiver<ControlState> {
        self.picture.state.subscribe()
    }

    /// Says whether a service that this workload serves takes new requests. Other services are ignored.
    pub fn report_health(&self, service: &ServiceName, health: Health) {
        self.picture.registration.send_if_modified(|registration| registration.set_health(service, health));
    }

    /// Registers every service as draining: no new requests come, those under way go on.
    pub fn drain(&self) {
        self.picture.registration.send_if_modified(registration::Registration::drain);
    }

    /// Saves nothing from now on: another process has taken over the state folder.
    pub fn leave_state(&self) {
        self.picture.state_dir.iter().for_each(|state| state.leave());
    }

    /// Tells every gateway that this workload is gone now, and makes no control connection any more. Takes at most 500 ms.
    pub async fn goodbye(&self) {
        self.picture.leaving.cancel();
        let mut told = JoinSet::new();
        for requests in self.picture.sessions() {
            let (done, heard) = oneshot::channel();
            told.spawn(async move {
                // a session that ends meanwhile is as good as told: its gateway sees it go
                if requests.send(Request::Goodbye(done)).await.is_ok() {
                    let _ = heard.await;
                }
            });
        }
        if tokio::time::timeout(GOODBYE_WITHIN, told.join_all()).await.is_err() {
            tracing::warn!("a gateway did not confirm the goodbye within {GOODBYE_WITHIN:?}");
        }
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control")
            .field("workload", &self.picture.workload)
            .field("state", &*self.picture.state.borrow())
            .finish_non_exhaustive()
    }
}
