//! One node of the registry: its opening, its local reads, its end. Changes are in `lead`,
//! those of the group in `members` and `transfer`, calls from others in `serve`.

mod commands;
mod lead;
mod members;
mod serve;
mod transfer;

use crate::StoreError;
use crate::config::{RaftTiming, StoreConfig};
use crate::contacts::Contacts;
use crate::disk::Disk;
use crate::log::LogStore;
use crate::machine::StateMachine;
use crate::member::Member;
use crate::message::{Answer, Request};
use crate::network::{Network, PeerCalls};
use crate::propose::{ProposeError, Proposed};
use crate::raft::{Metrics, Raft};
use crate::replica::Replica;
use crate::snapshot::Incoming;
use crate::status::RegistryStatus;
use causeway_catalog::{Catalog, Command, CommandBody, Replay};
use causeway_model::{NodeId, Revision};
use openraft::error::{Fatal, InitializeError, RaftError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How long a change or a current read may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// How long a node that forms a group of one, or finds itself in one, waits until it leads.
const SETTLE: Duration = Duration::from_secs(5);

/// Why a cluster was not initialised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitError {
    /// The node is in a group.
    #[error("this registry is initialised already: give a new cluster a state directory of its own")]
    AlreadyInitialised,
    /// The first command of a catalog gives the cluster its facts.
    #[error("a registry starts with the command init-cluster, and {0} was given")]
    NotInit(&'static str),
    /// The group of one did not come up.
    #[error("the new registry does not come up: {0}")]
    NotReady(String),
    /// The command failed. It can be tried again.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

impl InitError {
    /// The stable word for logs, metrics and answers.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::AlreadyInitialised => "already-initialised",
            Self::NotInit(_) => "not-init-cluster",
            Self::NotReady(_) => "not-ready",
            Self::Propose(error) => error.reason(),
        }
    }
}

/// The local replica did not reach a revision in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this gateway's replica is at revision {applied} and did not reach {wanted} in time: its leader may be unreachable"
)]
pub struct Lagging {
    /// What was waited for.
    pub wanted: Revision,
    /// Where it is.
    pub applied: Revision,
}

/// One node of the registry. Clones are handles to the same node.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    node: NodeId,
    timing: RaftTiming,
    /// The commands up to this number are known to every member.
    known_to_all: u16,
    raft: Raft,
    peers: Arc<dyn PeerCalls>,
    disk: Arc<Disk>,
    replica: Arc<Replica>,
    contacts: Arc<Contacts>,
    incoming: tokio::sync::Mutex<Incoming>,
    /// Held while the group is changed.
    changing: tokio::sync::Mutex<()>,
    /// This leader takes nothing more, so that another one can take over.
    handing_over: AtomicBool,
    /// Which leader spoke last, and when.
    heard: Mutex<Option<(NodeId, Instant)>>,
    closing: Arc<AtomicBool>,
}

impl Registry {
    /// Opens the node's database, or makes it, and takes part in the group that it belongs to, if it does.
    ///
    /// # Errors
    /// The settings are wrong, or the database cannot be read or is damaged, locked, another node's or a later release's.
    pub async fn open(config: StoreConfig, peers: Arc<dyn PeerCalls>) -> Result<Self, StoreError> {
        // before the disk is touched
        config.raft()?;
        let disk = Disk::open(&config.dir, config.node).await?;
        Self::start(&config, disk, peers).await
    }

    pub(crate) async fn start(
        config: &StoreConfig,
        disk: Arc<Disk>,
        peers: Arc<dyn PeerCalls>,
    ) -> Result<Self, StoreError> {
        let replica = Arc::new(Replica::new());
        let machine = StateMachine::load(disk.clone(), replica.clone()).await?;
        let contacts = Arc::<Contacts>::default();
        let network = Network::new(config.node, peers.clone(), contacts.clone());
        let log = LogStore::new(disk.clone());
        let raft = Raft::new(config.node.0, Arc::new(config.raft()?), network, log, machine).await;
        let raft = raft.map_err(|fatal| stopped(&disk, &fatal))?;
        let closing = Arc::new(AtomicBool::new(false));
        tokio::spawn(watch_over(raft.metrics(), disk.clone(), closing.clone()));
        let registry = Self {
            inner: Arc::new(Inner {
                node: config.node,
                timing: config.timing.clone(),
                known_to_all: config.known_to_all,
                raft,
                peers,
                disk,
                replica,
                contacts,
                incoming: tokio::sync::Mutex::default(),
                changing: tokio::sync::Mutex::default(),
                handing_over: AtomicBool::new(false),
                heard: Mutex::new(None),
                closing,
            }),
        };
        registry.settle().await?;
        Ok(registry)
    }

    /// Waits until the engine runs, and on the only voter until the whole log is in the catalog: nobody can take it back.
    async fn settle(&self) -> Result<(), StoreError> {
        let inner = &self.inner;
        // it answers only after it has started up and reported its state
        inner.raft.with_raft_state(|_| ()).await.map_err(|fatal| stopped(&inner.disk, &fatal))?;
        let last = inner.raft.metrics().borrow().last_log_index;
        let Some(last) = last.filter(|_| self.votes_alone()) else { return Ok(()) };
        if let Err(lagging) = self.wait_applied(Revision(last), SETTLE).await {
            tracing::warn!(%lagging, "the registry starts before its whole log is applied");
        }
        Ok(())
    }

    /// Whether the node belongs to a group. Not yet if the cluster's very first command was cut short: then
    /// [`Registry::initialise`] completes it.
    pub fn is_initialised(&self) -> bool {
        let voters = self.voters();
        self.catalog().cluster().is_some() || !voters.is_empty() && !self.votes_alone()
    }

    /// Forms a group of which this node is the only voter, and applies `command`, an init-cluster.
    ///
    /// # Errors
    /// The node is in a group already, the command is another one or is refused, or the disk fails.
    pub async fn initialise(&self, command: Command) -> Result<Proposed, InitError> {
        if !matches!(command.body, CommandBody::InitCluster(_)) {
            return Err(InitError::NotInit(command.body.name()));
        }
        if self.is_initialised() {
            return Err(InitError::AlreadyInitialised);
        }
        match self.inner.raft.initialize(self.alone()).await {
            // a group that was formed before the process was cut short
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => return Err(InitError::NotReady(error.to_string())),
        }
        let me = self.inner.node.0;
        let mut metrics = self.inner.raft.metrics();
        let leads = |metrics: &Metrics| metrics.current_leader == Some(me) && metrics.state.is_leader();
        match timeout(SETTLE, metrics.wait_for(leads)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(InitError::NotReady(self.cause_of_end())),
            Err(_) => return Err(InitError::NotReady(format!("it does not lead after {SETTLE:?}"))),
        }
        Ok(self.propose(command).await?)
    }

    /// Makes a change, here if this node leads, else through the leader. Answers within 3 s.
    ///
    /// # Errors
    /// See [`ProposeError`]: which of them leave the outcome unknown.
    pub async fn propose(&self, command: Command) -> Result<Proposed, ProposeError> {
        match self.at_leader(Request::Propose(command), DEADLINE).await? {
            Answer::Proposed(proposed) => Ok(proposed),
            _ => Err(ProposeError::failed("the leader answered something else")),
        }
    }

    /// The local replica's newest catalog. It may be behind the leader's.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.inner.replica.catalog()
    }

    /// The revision of [`Registry::catalog`].
    pub fn revision(&self) -> Revision {
        self.catalog().revision()
    }

    /// Every catalog from now on, the newest first; when they come fast, some are skipped.
    pub fn watch(&self) -> watch::Receiver<Arc<Catalog>> {
        self.inner.replica.watch()
    }

    /// What changed in the local replica after `revision`, as far back as it remembers.
    pub fn events_since(&self, revision: Revision) -> Replay {
        self.inner.replica.since(revision)
    }

    /// A catalog that has every change which was made before the call, anywhere in the cluster. Answers within 3 s.
    ///
    /// # Errors
    /// As for [`Registry::propose`], except that nothing is changed.
    pub async fn current(&self) -> Result<Arc<Catalog>, ProposeError> {
        let deadline = Instant::now() + DEADLINE;
        let Answer::Index(index) = self.at_leader(Request::ReadIndex, DEADLINE).await? else {
            return Err(ProposeError::failed("the leader answered something else"));
        };
        let left = deadline.saturating_duration_since(Instant::now());
        self.wait_applied(Revision(index), left)
            .await
            .map_err(|lagging| ProposeError::failed(lagging.to_string()))?;
        Ok(self.catalog())
    }

    /// Waits until the local replica has every change up to `revision`.
    ///
    /// # Errors
    /// It has not `within` that time.
    pub async fn wait_applied(&self, revision: Revision, within: Duration) -> Result<(), Lagging> {
        let mut applied = self.inner.replica.applied();
        let reached = timeout(within, applied.wait_for(|applied| *applied >= revision)).await;
        if matches!(reached, Ok(Ok(_))) {
            return Ok(());
        }
        Err(Lagging { wanted: revision, applied: *self.inner.replica.applied().borrow() })
    }

    /// How this node is doing.
    pub fn status(&self) -> RegistryStatus {
        let metrics = self.inner.raft.metrics().borrow().clone();
        let leader = metrics.current_leader.map(NodeId);
        let leader = leader.filter(|&leader| {
            let own = leader == self.inner.node && metrics.state.is_leader();
            own || self.heard_within(leader, self.inner.timing.patience())
        });
        let failure = self.inner.disk.failure().borrow().as_ref().map(ToString::to_string);
        RegistryStatus::new(&metrics, *self.inner.replica.applied().borrow(), leader, failure)
    }

    /// Why the node takes no part any more; `None` while all is well. What it served before it goes on serving.
    pub fn failure(&self) -> watch::Receiver<Option<Arc<StoreError>>> {
        self.inner.disk.failure()
    }

    /// Leaves off taking part and closes the database. Later calls fail; the last catalog stays readable.
    ///
    /// # Errors
    /// The database could not be closed cleanly; the next open recovers it.
    pub async fn shutdown(&self) -> Result<(), StoreError> {
        self.inner.closing.store(true, Ordering::Relaxed);
        // its own error can only say that the engine had ended before
        let _ = self.inner.raft.shutdown().await;
        self.inner.disk.close().await
    }

    /// A group of this node alone.
    fn alone(&self) -> BTreeMap<u64, Member> {
        BTreeMap::from([(self.inner.node.0, Member { disk: Some(self.inner.disk.id()) })])
    }

    /// Who votes; while that changes, the old voters and the new ones.
    pub fn voters(&self) -> BTreeSet<NodeId> {
        let metrics = self.inner.raft.metrics();
        metrics.borrow().membership_config.membership().voter_ids().map(NodeId).collect()
    }

    /// Whether a change of the voters was begun and is not complete: majorities of both the old ones and the new ones are needed for
    /// everything. [`Registry::set_voters`] with the new ones completes it, if the leader that began it is gone.
    pub fn is_changing_voters(&self) -> bool {
        let metrics = self.inner.raft.metrics();
        metrics.borrow().membership_config.membership().get_joint_config().len() > 1
    }

    fn votes_alone(&self) -> bool {
        self.voters() == BTreeSet::from([self.inner.node])
    }

    fn is_member(&self, node: NodeId) -> bool {
        let metrics = self.inner.raft.metrics();
        metrics.borrow().membership_config.membership().get_node(&node.0).is_some()
    }

    fn heard_within(&self, leader: NodeId, time: Duration) -> bool {
        let heard = *self.inner.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.is_some_and(|(who, when)| who == leader && when.elapsed() <= time)
    }

    /// Forms the group, as an initialisation does that is cut short after it.
    #[cfg(test)]
    pub(crate) async fn form_group_of_one(&self) {
        self.inner.raft.initialize(self.alone()).await.unwrap();
    }

    /// Why the engine ended.
    fn cause_of_end(&self) -> String {
        let failure = self.inner.disk.failure().borrow().clone();
        failure.map_or_else(|| "the registry was shut down".to_owned(), |error| error.to_string())
    }
}

/// The error for an engine that ended: the disk's own, which is more telling, if it has one.
fn stopped(disk: &Disk, fatal: &Fatal<u64>) -> StoreError {
    let failure = disk.failure().borrow().clone();
    let own = || StoreError::Stopped { path: disk.path().to_owned(), cause: fatal.to_string() };
    failure.map_or_else(own, |error| StoreError::clone(&error))
}

/// Reports an engine that ends although nobody asked it to.
async fn watch_over(mut metrics: watch::Receiver<Metrics>, disk: Arc<Disk>, closing: Arc<AtomicBool>) {
    let ended = metrics.wait_for(|metrics| metrics.running_state.is_err()).await;
    let fatal = match ended {
        Ok(metrics) => metrics.running_state.clone().err().unwrap_or(Fatal::Stopped),
        Err(_) => Fatal::Panicked,
    };
    // every handle was dropped, or the node was shut down
    if fatal == Fatal::Stopped || closing.load(Ordering::Relaxed) {
        return;
    }
    let error = stopped(&disk, &fatal);
    disk.fail(&error);
}
