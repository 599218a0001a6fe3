//! What a sidecar is told about its part in the mesh.

use crate::metrics::ClientMetrics;
use causeway_model::Locality;
use causeway_runtime::files::DirLock;
use causeway_wire::ctl::ServedService;
use causeway_wire::token::JoinToken;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Who a sidecar is and what it serves.
#[derive(Clone, Debug, Default)]
pub struct ClientConfig {
    /// What it joins with; not needed while a saved identity lives.
    pub token: Option<JoinToken>,
    /// Where key, SVID and what was last learned are kept over a restart; `None` keeps nothing.
    pub state_dir: Option<PathBuf>,
    /// The lock of that folder, where the caller has it already; it is taken otherwise.
    pub lock: Option<Arc<DirLock>>,
    /// The services it serves, at most [`causeway_wire::ctl::MAX_SERVED`].
    pub serve: Vec<ServedService>,
    /// Where it runs; `None` means where its gateway runs.
    pub locality: Option<Locality>,
    /// Its share of the load, 1 to 1000; 0 is taken as 1.
    pub weight: u16,
    /// Where sidecars of its cluster may reach it directly; of more than 8 the first are told.
    pub overlay: Vec<SocketAddr>,
}

/// How [`Control`](crate::Control) runs.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// What it counts.
    pub metrics: ClientMetrics,
    /// How many gateways it keeps control connections to, 1 to 3.
    pub gateways: usize,
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self { metrics: ClientMetrics::default(), gateways: 2 }
    }
}
