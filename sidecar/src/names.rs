//! The services that the application asks for by name: what is known of each, and its virtual address.
//!
//! Owns which names are in use (from the first question or connection on), that an unknown one is not asked for again and again,
//! and how many there may be. Answers are `causeway-dns`'s, connections the outbound side's.

mod questions;
mod table;

pub(crate) use questions::Questions;

use crate::membership::View;
use causeway_client::VipError;
use causeway_model::{PortSet, Vip, VipName};
use causeway_wire::view::ServiceView;
use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;
use table::Table;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long a name may take that nothing is known of.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many names may be looked up at once.
const MAX_PENDING: usize = 256;
/// A name in use makes its connections ready at most once in so long.
const WARM_EVERY: Duration = Duration::from_secs(5);
/// How often the follower is told of the names in use.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many names may wait for their connections to be made ready.
pub(crate) const WARM_QUEUE: usize = 64;

type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the control plane knows of names.
pub(crate) trait Directory: Send + Sync + 'static {
    /// Uses the service of `name` until what is returned is dropped. Offers of clusters that are not meant are left out.
    fn subscribe(&self, name: &VipName) -> Subscribed;
    /// The virtual address of `name`, which gets one if it has none.
    fn vip(&self, name: VipName) -> Answer<Result<Vip, VipError>>;
    /// What a virtual address is of.
    fn name_of(&self, vip: Vip) -> Answer<Result<VipName, VipError>>;
}

/// A service in use.
pub(crate) struct Subscribed {
    pub(crate) view: View,
    /// Keeps it in use.
    pub(crate) guard: Box<dyn Any + Send + Sync>,
}

/// A name in use.
pub(crate) struct Name {
    pub(crate) name: VipName,
    pub(crate) vip: Vip,
    pub(crate) view: View,
    ports: Mutex<Option<(Arc<ServiceView>, PortSet)>>,
    warmed: Mutex<Option<Instant>>,
    _guard: Box<dyn Any + Send + Sync>,
}

impl Name {
    /// Its ports, in all clusters that offer it; `None` while nobody offers it.
    pub(crate) fn ports(&self) -> Option<PortSet> {
        let view = self.view.borrow().clone()?;
        let mut known = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, ports)) = &*known
            && Arc::ptr_eq(of, &view)
        {
            return Some(ports.clone()).filter(|ports| !ports.is_empty());
        }
        let ports = offered(&view);
        *known = Some((view, ports.clone()));
        Some(ports).filter(|ports| !ports.is_empty())
    }

    /// Whether its connections should be made ready: not while that was done a moment ago.
    fn begins_warming(&self, now: Instant) -> bool {
        let mut warmed = self.warmed.lock().unwrap_or_else(PoisonError::into_inner);
        let due = warmed.is_none_or(|at| now.saturating_duration_since(at) >= WARM_EVERY);
        if due {
            *warmed = Some(now);
        }
        due
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Name").field("name", &self.name).field("vip", &self.vip).finish_non_exhaustive()
    }
}

/// The ports of all offers. Where two clusters differ about a port, the nearest one counts.
fn offered(view: &ServiceView) -> PortSet {
    let mut ports = std::collections::BTreeMap::new();
    for port in view.offers.iter().flat_map(|offer| offer.ports.iter()) {
        ports.entry(port.key()).or_insert(port);
    }
    let list: Vec<_> = ports.into_values().take(PortSet::MAX).collect();
    // each key is there once
    PortSet::try_from(list).unwrap_or_default()
}

/// Why a virtual address leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// There is no such service, or nothing has that address.
    #[error("nothing in the mesh has that name or address")]
    Unknown,
    /// Nobody could say.
    #[error("{0}")]
    Unavailable(String),
}

/// The names in use.
pub(crate) struct NameTable {
    directory: Arc<dyn Directory>,
    table: RwLock<Table>,
    pending: Arc<Semaphore>,
    /// Names whose connections are to be made ready.
    warm: mpsc::Sender<Arc<Name>>,
    /// Is told of each name that comes into use, before anybody learns its address, and of each that is given up.
    follow: OnceLock<Arc<dyn Follow>>,
}

/// Who follows which names are in use.
pub(crate) trait Follow: Send + Sync + 'static {
    /// `name` is in use. Called again and again.
    fn follow(&self, name: &Arc<Name>);
    /// It is not in use any more.
    fn forget(&self, name: &VipName);
}

impl NameTable {
    /// No names yet. Those whose connections are to be made ready are sent to `warm`.
    pub(crate) fn new(
        directory: Arc<dyn Directory>,
        most: usize,
        warm: mpsc::Sender<Arc<Name>>,
    ) -> Arc<Self> {
        let pending = Arc::new(Semaphore::new(MAX_PENDING));
        let table = RwLock::new(Table::new(most));
        Arc::new(Self { directory, table, pending, warm, follow: OnceLock::new() })
    }

    /// The name in use with that virtual address, which an application may have learned long ago.
    ///
    /// # Errors
    /// It is nobody's, or nobody can say now whose it is.
    pub(crate) async fn by_vip(&self, vip: Vip) -> Result<Arc<Name>, LookupError> {
        if let Some(name) = self.table().by_vip(vip) {
            return Ok(name);
        }
        let name = self.name_of(vip).await?;
        self.find(name).await
    }

    /// The name that a virtual address was given to, which that does not bring into use.
    async fn name_of(&self, vip: Vip) -> Result<VipName, LookupError> {
        self.directory.name_of(vip).await.map_err(lookup_error)
    }

    /// The name in use, which it is from now on.
    ///
    /// # Errors
    /// There is no such service, or nobody can say now whether there is.
    pub(crate) async fn find(&self, name: VipName) -> Result<Arc<Name>, LookupError> {
        let now = Instant::now();
        let known = {
            let table = self.table();
            let known = table.by_name(&name);
            if known.is_none() && table.is_unknown(&name, now) {
                return Err(LookupError::Unknown);
            }
            known
        };
        if let Some(known) = known {
            // of one that was remembered nothing may be known yet
            said(&mut known.view.clone(), &name, now + PATIENCE).await?;
            return Ok(known);
        }
        let deadline = now + PATIENCE;
        // an application that asks for all of its names at its start waits a moment, and is not told that there are none
        let _permit = timeout_at(deadline, self.pending.acquire()).await.map_err(|_| {
            LookupError::Unavailable(format!("{MAX_PENDING} other names are being looked up"))
        })?;
        let found = self.look_up(&name, deadline).await;
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let (found, given_up) = match found {
            Ok(found) => table.add(found),
            Err(LookupError::Unknown) => {
                table.add_unknown(name, Instant::now());
                return Err(LookupError::Unknown);
            }
            Err(error) => return Err(error),
        };
        drop(table);
        if let Some(follow) = self.follow.get() {
            if let Some(name) = given_up {
                follow.forget(&name);
            }
            follow.follow(&found);
        }
        Ok(found)
    }

    /// Uses names that were asked for before this start: applications may still know their virtual addresses. Of too many those that
    /// were learned first are left out.
    pub(crate) fn restore(&self, remembered: Vec<(VipName, Vip)>) {
        let most = self.table().most();
        let fewer = remembered.len().saturating_sub(most);
        for (name, vip) in remembered.into_iter().skip(fewer) {
            let Subscribed { view, guard } = self.directory.subscribe(&name);
            let name =
                Name { name, vip, view, ports: Mutex::default(), warmed: Mutex::default(), _guard: guard };
            let (name, _) = self.table.write().unwrap_or_else(PoisonError::into_inner).add(name);
            if let Some(follow) = self.follow.get() {
                follow.follow(&name);
            }
        }
    }

    /// Tells `follow` of the names in use from now on. Only the first one is told.
    pub(crate) fn set_follow(&self, follow: Arc<dyn Follow>) {
        let _ = self.follow.set(follow);
    }

    /// Tells the follower of the names in use again and again, until `stop`: their ports change, and what could not be had may be free.
    pub(crate) async fn keep_following(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => return,
            }
            let all = self.table().all().collect::<Vec<_>>();
            if let Some(follow) = self.follow.get() {
                all.iter().for_each(|name| follow.follow(name));
            }
        }
    }

    async fn look_up(&self, name: &VipName, deadline: Instant) -> Result<Name, LookupError> {
        let Subscribed { mut view, guard } = self.directory.subscribe(name);
        let offers = said(&mut view, name, deadline).await?;
        if offers.is_empty() {
            return Err(LookupError::Unknown);
        }
        let asked = timeout_at(deadline, self.directory.vip(name.clone())).await;
        let slow = |_| LookupError::Unavailable(format!("no gateway gave {name} a virtual address in time"));
        let vip = asked.map_err(slow)?.map_err(lookup_error)?;
        let (ports, warmed) = (Mutex::default(), Mutex::default());
        Ok(Name { name: name.clone(), vip, view, ports, warmed, _guard: guard })
    }

    /// Has the connections of `name` made ready, unless that was done a moment ago.
    fn warm(&self, name: &Arc<Name>) {
        if name.begins_warming(Instant::now()) {
            // when many wait, the first connection makes its own
            let _ = self.warm.try_send(Arc::clone(name));
        }
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ports of all offers, once a gateway has said what they are. What is there at the deadline counts, and what comes later is asked
/// for again.
async fn said(view: &mut View, name: &VipName, deadline: Instant) -> Result<PortSet, LookupError> {
    let _ = timeout_at(deadline, view.wait_for(Option::is_some)).await;
    let ports = view.borrow().as_deref().map(offered);
    ports.ok_or_else(|| {
        LookupError::Unavailable(format!("no gateway has said anything of {} yet", name.service))
    })
}

fn lookup_error(error: VipError) -> LookupError {
    match error {
        VipError::Unknown { .. } => LookupError::Unknown,
        other => LookupError::Unavailable(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
