//! Virtual addresses: whether a name may have one, and those that the registry has to allocate.
//!
//! What the replica knows is answered from it. The rest waits here, one entry a name however many sidecars ask for it, and one task
//! proposes all that waits in one command: the first seconds of a large cluster are a few commands and not one a name.

use super::Hub;
use causeway_catalog::{AllocateVips, Catalog, MAX_VIP_BATCH, Outcome, Refusal};
use causeway_model::{Revision, Vip, VipName};
use causeway_store::ProposeError;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// The most questions of all sidecars that wait.
const MAX_WAITING: usize = 8_192;
/// How long the registry may take. A sidecar gives up after 2 s, and says why it failed only if it hears it before.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// How long the next questions wait for this replica to see what was allocated just now; otherwise they are proposed once more, which
/// changes nothing.
const CATCH_UP: Duration = Duration::from_millis(200);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoVip {
    /// The stable word.
    pub(crate) reason: &'static str,
    /// For the operator.
    pub(crate) message: String,
}

impl NoVip {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl From<&Refusal> for NoVip {
    fn from(refusal: &Refusal) -> Self {
        Self::new(refusal.reason(), refusal.to_string())
    }
}

impl From<&ProposeError> for NoVip {
    fn from(error: &ProposeError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

/// The answer to a question that had to wait.
#[derive(Debug)]
pub(crate) struct VipAnswer {
    /// The number that the question had.
    pub(crate) request: u32,
    /// What was asked for.
    pub(crate) name: VipName,
    pub(crate) vip: Result<Vip, NoVip>,
}

/// Who waits. The channel must have room for as many answers as it has questions waiting.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) request: u32,
    pub(crate) answer: mpsc::Sender<VipAnswer>,
}

/// The questions that wait for the registry.
#[derive(Debug, Default)]
pub(crate) struct VipDesk {
    waiting: Mutex<Waiting>,
    work: Notify,
}

type Questions = BTreeMap<VipName, Vec<Waiter>>;

#[derive(Debug, Default)]
struct Waiting {
    of: Questions,
    count: usize,
}

impl VipDesk {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, name: VipName, waiter: Waiter) -> Result<(), NoVip> {
        let mut waiting = self.lock();
        if waiting.count >= MAX_WAITING {
            let message = format!(
                "{MAX_WAITING} questions for virtual addresses wait for the registry: ask again later"
            );
            return Err(NoVip::new("overloaded", message));
        }
        waiting.count += 1;
        waiting.of.entry(name).or_default().push(waiter);
        drop(waiting);
        self.work.notify_one();
        Ok(())
    }

    /// All that wait and whose session still stands.
    fn take(&self) -> Questions {
        let mut questions = std::mem::take(&mut *self.lock()).of;
        questions.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.answer.is_closed());
            !waiters.is_empty()
        });
        questions
    }
}

/// Tells all of them.
fn answer(name: &VipName, waiters: Vec<Waiter>, vip: &Result<Vip, NoVip>) {
    for Waiter { request, answer } in waiters {
        // the session may have ended meanwhile
        let _ = answer.try_send(VipAnswer { request, name: name.clone(), vip: vip.clone() });
    }
}

impl Hub {
    /// The virtual address of `name`; `None` if it may have one and is to be asked for with [`Hub::allocate_vip`].
    pub(crate) fn vip(&self, name: &VipName) -> Result<Option<Vip>, NoVip> {
        let catalog = self.ready_catalog()?;
        match catalog.vip(name) {
            Some(vip) => Ok(Some(vip)),
            None if self.is_offered(&catalog, name) => Ok(None),
            None => Err(not_offered(name)),
        }
    }

    /// The name that has this virtual address.
    pub(crate) fn vip_name(&self, vip: Vip) -> Result<VipName, NoVip> {
        self.ready_catalog()?.vip_name(vip).ok_or_else(|| {
            let message = format!("no name has the virtual address {vip}: look up the service's name anew");
            NoVip::new("vip-unknown", message)
        })
    }

    /// Lets the registry give `name` a virtual address; the answer goes to `waiter`.
    pub(crate) fn allocate_vip(&self, name: VipName, waiter: Waiter) -> Result<(), NoVip> {
        self.vips.add(name, waiter)
    }

    fn ready_catalog(&self) -> Result<std::sync::Arc<Catalog>, NoVip> {
        let catalog = self.catalog();
        if catalog.cluster().is_some() {
            return Ok(catalog);
        }
        let node = self.node.id();
        let message = format!("gateway {node} has not got its cluster's registry yet: try again in a moment");
        Err(NoVip::new("not-ready", message))
    }

    /// Whether the cluster that `name` is pinned to has the service, or any if it is not: this one, or one that is linked.
    fn is_offered(&self, catalog: &Catalog, name: &VipName) -> bool {
        let meant = |cluster| name.cluster.as_ref().is_none_or(|pinned| pinned == cluster);
        if meant(&self.node.cluster().name) && catalog.service(&name.service).is_some() {
            return true;
        }
        let soft = self.soft();
        catalog.links().filter(|link| !link.paused && !link.peer_paused && meant(&link.peer.name)).any(
            |link| {
                let peer = soft.peers.get(&link.peer.id);
                peer.is_some_and(|peer| peer.imports.by_name(&name.service).is_some())
            },
        )
    }
}

fn not_offered(name: &VipName) -> NoVip {
    let service = &name.service;
    let message = match &name.cluster {
        Some(cluster) => format!(
            "cluster {cluster} does not offer service {service} here: link with it and let it export the service, or ask for \
             {service} without a cluster"
        ),
        None => format!(
            "service {service} is unknown: neither this cluster nor a linked one has it; start a sidecar that serves it, or export \
             it from the cluster that does"
        ),
    };
    NoVip::new("service-unknown", message)
}

/// Lets the registry allocate what is asked for.
pub(super) async fn allocate(hub: Hub) {
    let stop = hub.tasks.token();
    loop {
        tokio::select! {
            () = hub.vips.work.notified() => {}
            () = stop.cancelled() => return,
        }
        let mut questions = hub.vips.take();
        let known = hub.catalog();
        questions = questions
            .into_iter()
            .filter_map(|(name, waiters)| match known.vip(&name) {
                Some(vip) => {
                    answer(&name, waiters, &Ok(vip));
                    None
                }
                None => Some((name, waiters)),
            })
            .collect();
        if let Some(revision) = propose(&hub, questions).await {
            let _ = hub.registry.wait_applied(revision, CATCH_UP).await;
        }
    }
}

/// Proposes all of `questions` and answers them; the revision of the last change.
async fn propose(hub: &Hub, mut questions: Questions) -> Option<Revision> {
    let by = format!("gateway {}", hub.node.id());
    let mut made = None;
    while !questions.is_empty() {
        let names: Vec<VipName> = questions.keys().take(MAX_VIP_BATCH).cloned().collect();
        match allocate_now(hub, &by, names.clone()).await {
            Ok((revision, vips)) => {
                made = Some(revision);
                for (name, vip) in names.iter().zip(vips) {
                    let waiters = questions.remove(name).unwrap_or_default();
                    answer(name, waiters, &vip.map_err(|refusal| NoVip::from(&refusal)));
                }
            }
            // what keeps one command from the registry keeps the others from it, too
            Err(failed) => {
                tracing::warn!(
                    names = questions.len(),
                    reason = failed.reason,
                    "virtual addresses are not allocated: {}",
                    failed.message
                );
                let failed = Err(failed);
                questions.into_iter().for_each(|(name, waiters)| answer(&name, waiters, &failed));
                return made;
            }
        }
    }
    made
}

/// One result for each of `names`.
type Allocated = (Revision, Vec<Result<Vip, Refusal>>);

async fn allocate_now(hub: &Hub, by: &str, names: Vec<VipName>) -> Result<Allocated, NoVip> {
    let count = names.len();
    let proposed = match tokio::time::timeout(PATIENCE, hub.propose(by, AllocateVips { names })).await {
        Ok(proposed) => proposed.map_err(|error| NoVip::from(&error))?,
        Err(_) if hub.registry.status().leader.is_none() => {
            let message = "the registry has no leader: names get no new virtual addresses until a majority of its gateways is back; \
                           those that have one keep it";
            return Err(NoVip::new("no-quorum", message));
        }
        Err(_) => {
            let message =
                format!("the registry did not allocate a virtual address within {PATIENCE:?}: ask again");
            return Err(NoVip::new("timeout", message));
        }
    };
    match proposed.outcome {
        Outcome::Vips { vips } if vips.len() == count => Ok((proposed.revision, vips)),
        _ => Err(NoVip::new("internal", "the registry answered something else: ask again")),
    }
}

#[cfg(test)]
mod tests;
