//! What a gateway knows, put together: intent from the registry, liveness from presence, offers from linked clusters.
//!
//! The hub owns the soft state of the process and answers every question about services and workloads from memory. It
//! does no I/O itself: sessions with sidecars, siblings and linked clusters feed it and hear of changes through
//! [`Hub::changes`]. Its parts: `hub/answers.rs` composes views, `hub/index.rs` knows which
//! services there are and which changed, `hub/feed.rs` takes what sessions hear, `hub/drive.rs` runs the clocks
//! and keeps the forwarder's tables, `hub/vips.rs` has virtual addresses allocated, `hub/sessions.rs` says how many connections there may be, `hub/metrics.rs` what sessions
//! count.

mod answers;
mod behind;
mod dismiss;
mod drive;
mod feed;
#[cfg(test)]
pub(crate) mod fixture;
mod index;
mod lost;
mod metrics;
mod sessions;
mod trust;
mod vips;
mod waits;

pub(crate) use behind::Lag;
pub(crate) use drive::{cluster_addrs, drive, link_addrs};
pub(crate) use feed::{Held, RefusedOffers};
#[cfg(test)]
pub(crate) use index::names_from;
pub(crate) use index::{News, Position};
pub(crate) use metrics::Meter;
pub(crate) use sessions::{MAX_SESSIONS, MAX_STRANGERS, TooMany};
pub(crate) use trust::{RootId, root_id};
pub(crate) use vips::{NoVip, VipAnswer, Waiter};

use crate::bucket::Bucket;
use crate::disk::DiskWatch;
use crate::forwarder::Forwarder;
use crate::links::{Bulletin, Health, Transit};
use crate::node::{Node, NodeError};
use crate::siblings::Siblings;
use behind::Behind;
use causeway_catalog::{Catalog, Command, CommandBody};
use causeway_federation::{
    EndpointCache, Exporter, ImportRules, InstanceWatch, PeerImports, StalePolicy, UseSet,
};
use causeway_identity::ClusterCa;
use causeway_model::{ClusterId, Epoch, HostPort, NodeId, ServiceName, WorkloadId};
use causeway_presence::{Incarnation, Presence, PresenceConfig};
use causeway_runtime::{Drain, Tasks};
use causeway_store::{ProposeError, Proposed, Registry};
use causeway_transport::gateway::GatewayEndpoint;
use lost::Lost;
use metrics::SessionMetrics;
use sessions::Sessions;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, broadcast};
use trust::Reports;

/// How many changes a session may lag behind before it looks at everything anew.
const CHANGES: usize = 4096;
/// How often what a linked cluster says of itself goes into the registry: each time is a write to every disk of the cluster and
/// an entry of the audit, of which the newest 1,000 are kept.
const FACTS_EVERY: Duration = Duration::from_secs(5);
/// How many times in a row: the gateways of a cluster that is set up or rolled out change within seconds.
const FACTS_BURST: u32 = 8;

/// Something that sessions may want to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The catalog has a new revision.
    Catalog,
    /// The offers of a service changed, here or in a linked cluster.
    Service(ServiceName),
    /// A workload of this cluster is gone.
    Gone(WorkloadId),
    /// A workload of a linked cluster is gone.
    PeerGone(ClusterId, WorkloadId),
    /// What this gateway's sidecars want of a linked cluster changed: services in use, instances watched.
    Wants(ClusterId),
}

/// The soft state about one linked cluster.
pub(crate) struct Peer {
    /// What is taken of it.
    rules: ImportRules,
    pub(crate) imports: PeerImports,
    pub(crate) endpoints: EndpointCache,
    pub(crate) exporter: Exporter,
    /// Gateways of it with an open control connection, and how many.
    pub(crate) sessions: BTreeMap<NodeId, usize>,
    /// The gateway that said hello last, and by how many seconds its clock was ahead of this one's then.
    pub(crate) clock: Option<(NodeId, i64)>,
    /// The release it last said it runs.
    pub(crate) release: Option<String>,
    /// What it offered and was refused.
    pub(crate) refused: RefusedOffers,
    /// Which directions between its gateways and this cluster's work.
    pub(crate) health: Health,
    /// How often what it says of itself may still go into the registry.
    facts: Bucket,
}

pub(crate) struct Soft {
    pub(crate) presence: Presence,
    pub(crate) peers: BTreeMap<ClusterId, Peer>,
    pub(crate) instances: InstanceWatch,
    pub(crate) uses: UseSet,
    /// The cluster's gateways, as the registry had them last.
    pub(crate) members: BTreeSet<NodeId>,
    /// Control connections of sidecars to this gateway.
    pub(crate) attached: BTreeMap<WorkloadId, usize>,
    sessions: Sessions,
    /// Whom the sidecars of those connections trust.
    reports: Reports,
    /// How the cluster's other gateways are doing.
    pub(crate) siblings: Siblings,
    /// Whether this replica follows them.
    pub(crate) behind: Behind,
    /// Workloads that went without a goodbye.
    pub(crate) lost: Lost,
}

pub(crate) struct Inner {
    pub(crate) node: Node,
    pub(crate) registry: Registry,
    pub(crate) forwarder: Forwarder,
    pub(crate) endpoint: GatewayEndpoint,
    pub(crate) incarnation: Incarnation,
    /// Whether what must be kept can be written.
    pub(crate) disk: Arc<DiskWatch>,
    /// Where the admin API listens, once it does.
    pub(crate) admin: OnceLock<HostPort>,
    started: Instant,
    pub(crate) tasks: Tasks,
    pub(crate) drain: Drain,
    pub(crate) metrics: SessionMetrics,
    soft: Mutex<Soft>,
    index: index::Index,
    changes: broadcast::Sender<Change>,
    /// Presence has something to send, or a deadline changed.
    pub(crate) presence_work: Notify,
    /// The forwarder's tables may be out of date.
    pub(crate) tables_work: Notify,
    /// What this gateway says of its links to the others of the cluster.
    pub(crate) bulletin: Bulletin,
    /// Names that wait for virtual addresses.
    vips: vips::VipDesk,
    /// Which clusters are reached through others.
    pub(crate) transit: Transit,
}

/// A handle on what a gateway knows; cheap to clone.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Inner>);

impl std::ops::Deref for Hub {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// What is taken of a linked cluster, and what becomes of it while the link is silent.
fn import_rules(link: &causeway_catalog::Link) -> ImportRules {
    let stale = match link.stale {
        causeway_catalog::StalePolicy::ServeLast => StalePolicy::ServeLast,
        causeway_catalog::StalePolicy::EjectAfter { seconds } => {
            StalePolicy::EjectAfter(Duration::from_secs(seconds.into()))
        }
        causeway_catalog::StalePolicy::Fence => StalePolicy::Fence,
    };
    ImportRules { stale, ..ImportRules::new(link.peer.clone()) }
}

impl Hub {
    pub(crate) fn new(
        node: Node,
        registry: Registry,
        forwarder: Forwarder,
        endpoint: GatewayEndpoint,
        (tasks, drain): (Tasks, Drain),
    ) -> Self {
        let incarnation = Incarnation(node.incarnation());
        let presence = Presence::new(node.id(), incarnation, PresenceConfig::default(), Instant::now());
        let soft = Soft {
            presence,
            peers: BTreeMap::new(),
            instances: InstanceWatch::default(),
            uses: UseSet::default(),
            members: BTreeSet::new(),
            attached: BTreeMap::new(),
            sessions: Sessions::default(),
            reports: Reports::default(),
            siblings: Siblings::new(Instant::now()),
            behind: Behind::default(),
            lost: Lost::default(),
        };
        let disk = Arc::new(DiskWatch::new(node.dirs()));
        let transit = Transit::new(node.cluster().id);
        Self(Arc::new(Inner {
            disk,
            node,
            registry,
            forwarder,
            endpoint,
            incarnation,
            admin: OnceLock::new(),
            started: Instant::now(),
            tasks,
            drain,
            metrics: SessionMetrics::default(),
            soft: Mutex::new(soft),
            index: index::Index::default(),
            changes: broadcast::Sender::new(CHANGES),
            presence_work: Notify::new(),
            tables_work: Notify::new(),
            bulletin: Bulletin::default(),
            vips: vips::VipDesk::default(),
            transit,
        }))
    }

    /// The soft state. Never held across an await.
    pub(crate) fn soft(&self) -> MutexGuard<'_, Soft> {
        self.soft.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The catalog as this replica has it.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.registry.catalog()
    }

    /// For how long this process has been running.
    pub(crate) fn up(&self) -> Duration {
        self.started.elapsed()
    }

    /// What changes from now on.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Tells every session of `change`. One of a service must be in the registry's events, where a watch finds it; of others
    /// [`tell_services`](Self::tell_services) tells.
    pub(crate) fn tell(&self, change: Change) {
        // nobody listens while there is no session
        let _ = self.changes.send(change);
    }

    /// Tells every session that offers or the liveness of `services` changed, and remembers it.
    pub(crate) fn tell_services(&self, services: impl IntoIterator<Item = ServiceName>) {
        self.tell_changed(services.into_iter().collect());
    }

    /// Proposes a change to the registry, on behalf of `by`.
    pub(crate) async fn propose(
        &self,
        by: &str,
        body: impl Into<CommandBody>,
    ) -> Result<Proposed, ProposeError> {
        self.registry.propose(command(by, body)).await
    }

    /// The cluster's certificate authority, when this gateway may sign.
    pub(crate) fn ca(&self) -> Result<ClusterCa, NodeError> {
        let catalog = self.catalog();
        match catalog.cluster() {
            Some(cluster) => self.node.unseal_ca(&cluster.ca),
            None => Err(NodeError::Seal {
                cluster: self.node.cluster().name.to_string(),
                cause: "this gateway has not got the registry yet: try again in a moment".into(),
            }),
        }
    }

    fn tell_wants(&self, clusters: BTreeSet<ClusterId>) {
        for cluster in clusters {
            self.tell(Change::Wants(cluster));
        }
    }

    fn new_peer(&self, link: &causeway_catalog::Link) -> Peer {
        let rules = import_rules(link);
        Peer {
            rules: rules.clone(),
            endpoints: EndpointCache::new(&rules),
            imports: PeerImports::new(rules),
            exporter: Exporter::new(Epoch(self.incarnation.0)),
            sessions: BTreeMap::new(),
            clock: None,
            release: None,
            refused: RefusedOffers::default(),
            health: Health::new((self.node.cluster(), self.node.id()), &link.peer),
            facts: Bucket::new(FACTS_EVERY, FACTS_BURST),
        }
    }
}

/// A change that `by` asks for now.
pub(crate) fn command(by: &str, body: impl Into<CommandBody>) -> Command {
    let by = by.chars().take(200).collect();
    Command { at: causeway_runtime::clock::unix_now(), by, body: body.into() }
}
