//! One connection to each peer that this sidecar calls, and another for bulk traffic if there is any.
//!
//! Owns that there is one (callers that want the same peer wait for the same attempt), that a dead one is forgotten, and that one
//! in doubt is replaced. Which peer to use, and which is left alone because it failed, is chosen elsewhere.

mod probe;

pub(super) use probe::Prospects;

use super::connect::{Connector, Dial};
use crate::access::Direction;
use crate::balance::{Balances, Ear};
use crate::choose::Target;
use crate::failure::Failure;
use crate::peer::Peer;
use causeway_balance::Class;
use causeway_model::ClusterId;
use causeway_transport::{close, close_reason_text};
use causeway_wire::CloseCode;
use causeway_wire::data::DataHello;
use rustc_hash::FxHashMap;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A connection without streams is closed after so long.
const IDLE: Duration = Duration::from_secs(300);
/// How long one attempt to replace a connection in doubt may take, and how often one is begun at most.
const REPLACE: Duration = Duration::from_secs(1);

/// A connection is to a peer, for one class of traffic.
type Key = (Target, Class);

type Outcome = Option<Result<Arc<Peer>, Failure>>;

#[derive(Clone)]
enum Slot {
    /// An attempt, and the connection in doubt that it is to replace.
    Connecting(watch::Receiver<Outcome>, Option<Arc<Peer>>),
    Up(Arc<Peer>),
}

impl Slot {
    /// Whether a connection stands that is not in doubt, or is being made.
    fn is_alive(&self) -> bool {
        match self {
            Self::Up(peer) => peer.is_usable(),
            // an attempt whose task was dropped without an outcome is none
            Self::Connecting(waiting, _) => waiting.has_changed().is_ok() || waiting.borrow().is_some(),
        }
    }

    /// The connection that stands, or did before it came in doubt.
    fn peer(&self) -> Option<&Arc<Peer>> {
        match self {
            Self::Up(peer) => Some(peer),
            Self::Connecting(_, old) => old.as_ref(),
        }
    }

    /// The connection that streams may be opened on.
    fn usable(&self) -> Option<&Arc<Peer>> {
        self.peer().filter(|peer| peer.is_usable())
    }
}

#[derive(Default)]
struct State {
    slots: FxHashMap<Key, Slot>,
}

/// The connections that this sidecar has begun. Clones share them.
#[derive(Clone)]
pub(crate) struct Pool {
    connector: Arc<Connector>,
    balances: Arc<Balances>,
    state: Arc<Mutex<State>>,
}

impl Pool {
    pub(crate) fn new(connector: Connector, balances: Arc<Balances>) -> Self {
        Self { connector: Arc::new(connector), balances, state: Arc::default() }
    }

    /// The peer behind `target`, if a connection for small traffic to it stands that is not in doubt.
    #[cfg(test)]
    pub(crate) fn up(&self, target: Target) -> Option<Arc<Peer>> {
        self.lock().usable((target, Class::Small)).cloned()
    }

    /// The peer behind each of `targets`, if a connection for `class` to it stands that is not in doubt. One for small traffic does
    /// for bulk until there is another.
    pub(crate) fn standing(
        &self,
        targets: impl Iterator<Item = Target>,
        class: Class,
    ) -> Vec<Option<Arc<Peer>>> {
        let state = self.lock();
        let usable = |target| state.usable((target, class)).or_else(|| state.usable((target, Class::Small)));
        targets.map(|target| usable(target).cloned()).collect()
    }

    /// Whether a connection to `target` stands, and is in doubt.
    pub(crate) fn is_doubtful(&self, target: Target) -> bool {
        let state = self.lock();
        let mut peers = [Class::Small, Class::Bulk]
            .into_iter()
            .filter_map(|class| state.slots.get(&(target, class))?.peer());
        peers.any(|peer| peer.is_open() && !peer.is_usable())
    }

    /// How many streams are open to `target`.
    #[cfg(test)]
    pub(crate) fn load(&self, target: Target) -> u32 {
        let state = self.lock();
        let count = |class| state.usable((target, class)).map_or(0, |peer| peer.streams());
        count(Class::Small) + count(Class::Bulk)
    }

    /// Whether a connection for `class` to `target` stands or is being made.
    pub(crate) fn has(&self, target: Target, class: Class) -> bool {
        self.lock().slots.get(&(target, class)).is_some_and(Slot::is_alive)
    }

    /// Whether two connections stand to `target`: one for each class.
    #[cfg(test)]
    pub(crate) fn is_split(&self, target: Target) -> bool {
        let state = self.lock();
        let of = |class| state.usable((target, class));
        of(Class::Small).zip(of(Class::Bulk)).is_some_and(|(small, bulk)| !Arc::ptr_eq(small, bulk))
    }

    /// The peers that are connected.
    pub(crate) fn peers(&self) -> Vec<Arc<Peer>> {
        let state = self.lock();
        state.slots.values().filter_map(Slot::peer).filter(|peer| peer.is_open()).cloned().collect()
    }

    /// Listens to the peers of `cluster` from now on, without those of `except`.
    pub(crate) fn ear(&self, cluster: ClusterId, except: Option<Target>) -> Ear {
        let peers = self.peers().into_iter().filter(|peer| peer.cluster == cluster);
        Ear::new(peers.filter(|peer| except != Some(Target::Endpoint(peer.cluster, peer.instance))))
    }

    /// The peer of `dial`: connected now, or by an attempt that is shared and goes on when this call is dropped, or by the
    /// connection that this attempt would replace, if there is no doubt about it any more.
    ///
    /// # Errors
    /// Why the attempt failed.
    pub(crate) async fn get(&self, dial: Dial, class: Class) -> Result<Arc<Peer>, Failure> {
        let (mut waiting, old) = match self.begin(dial, class) {
            Slot::Up(peer) => return Ok(peer),
            Slot::Connecting(waiting, old) => (waiting, old),
        };
        let outcome = tokio::select! {
            outcome = waiting.wait_for(Option::is_some) => outcome.map(|outcome| outcome.clone()),
            peer = recovered(old) => return Ok(peer),
        };
        outcome.ok().flatten().unwrap_or(Err(Failure::Connection {
            endpoint: "the peer".to_owned(),
            reason: "going-away",
            text: "this sidecar is shutting down".to_owned(),
        }))
    }

    /// Begins to connect, unless that is done or under way, without waiting for it.
    pub(crate) fn warm(&self, dial: Dial, class: Class) {
        drop(self.begin(dial, class));
    }

    fn begin(&self, dial: Dial, class: Class) -> Slot {
        let key = (dial.target, class);
        let mut state = self.lock();
        let slot = state.slots.get(&key);
        if let Some(peer) = slot.and_then(Slot::usable) {
            return Slot::Up(Arc::clone(peer));
        }
        if let Some(slot @ Slot::Connecting(..)) = slot
            && slot.is_alive()
        {
            return slot.clone();
        }
        let old = slot.and_then(Slot::peer).filter(|peer| peer.is_open()).cloned();
        let (tell, waiting) = watch::channel(None);
        let slot = Slot::Connecting(waiting, old.clone());
        state.slots.insert(key, slot.clone());
        drop(state);
        let pool = self.clone();
        self.connector.tasks.spawn("peer", async move { pool.run((dial, class), old, tell).await });
        slot
    }

    /// A connection to `dial`, now and again while the one in doubt does not answer and somebody waits for either.
    async fn replace(
        &self,
        dial: &Dial,
        old: &Peer,
        tell: &watch::Sender<Outcome>,
    ) -> Result<(Peer, DataHello), Failure> {
        loop {
            let again = tokio::time::Instant::now() + REPLACE;
            let failure = match self.connector.connect(dial, REPLACE).await {
                Ok(connected) => return Ok(connected),
                Err(failure) => failure,
            };
            let silent = matches!(failure, Failure::Connection { reason: "timed-out", .. });
            // the pool itself has one receiver
            let wanted = tell.receiver_count() > 1;
            tokio::time::sleep_until(again).await;
            if !silent || !wanted || !old.is_open() || old.is_usable() {
                return Err(failure);
            }
        }
    }

    /// Connects, and then lives as long as the connection.
    async fn run(&self, (dial, class): (Dial, Class), old: Option<Arc<Peer>>, tell: watch::Sender<Outcome>) {
        let (target, key) = (dial.target, (dial.target, class));
        let (began, ear) = (Instant::now(), self.ear(target.cluster(), Some(target)));
        let result = match &old {
            Some(old) => self.replace(&dial, old, &tell).await,
            None => self.connector.connect(&dial, Duration::MAX).await,
        };
        let (peer, direct) = match result {
            Ok((peer, hello)) => (Arc::new(peer), hello.direct),
            Err(failure) => {
                self.connector.metrics.connect_failed(failure.reason());
                tracing::debug!(reason = failure.reason(), %failure, "could not connect to a peer");
                if !old.as_ref().is_some_and(|old| old.is_usable()) {
                    self.balances.not_connected(target, &failure, began, &ear);
                }
                self.lock().failed(key, old);
                tell.send_replace(Some(Err(failure)));
                return;
            }
        };
        drop(ear);
        let (used, mine) = self.adopt(key, &peer, old.as_ref());
        drop(old);
        tell.send_replace(Some(Ok(used)));
        self.live_or_close(&peer, &direct, mine).await;
    }

    /// Lives as long as a new connection, if it is used.
    async fn live_or_close(&self, peer: &Arc<Peer>, direct: &[SocketAddr], used: bool) {
        if used {
            self.live(peer, direct).await;
        } else {
            close(&peer.connection, CloseCode::Superseded, "another connection to this instance stands");
        }
    }

    /// Puts a new connection where it is looked for. A peer that a gateway picked may be one that is connected already: then
    /// that connection is used, and the new one is not. `old` is the one in doubt that it replaces.
    fn adopt(&self, key: Key, peer: &Arc<Peer>, old: Option<&Arc<Peer>>) -> (Arc<Peer>, bool) {
        let endpoint = Target::Endpoint(peer.cluster, peer.instance);
        self.balances.heard(peer.cluster, Some(endpoint));
        let own = (endpoint, key.1);
        let mut state = self.lock();
        let (mut used, mut replaced) = (Arc::clone(peer), None);
        if key != own {
            match state.slots.get(&own) {
                Some(Slot::Up(other)) if other.is_usable() => used = Arc::clone(other),
                // whoever waits for that attempt is told by it
                Some(Slot::Connecting(..)) => {}
                _ => replaced = state.slots.insert(own, Slot::Up(Arc::clone(peer))),
            }
        }
        state.slots.insert(key, Slot::Up(Arc::clone(&used)));
        for old in old.into_iter().chain(replaced.as_ref().and_then(Slot::peer)) {
            state.supersede(old, &used);
        }
        let mine = Arc::ptr_eq(&used, peer);
        (used, mine)
    }

    async fn live(&self, peer: &Arc<Peer>, direct: &[SocketAddr]) {
        let metrics = &self.connector.metrics;
        let _datagrams = peer.flows.read(&peer.connection, metrics.udp().direction(Direction::Outbound));
        let open = &metrics.direction(Direction::Outbound).peers;
        open.inc();
        tracing::debug!(endpoint = %peer, identity = %peer.identity, "connected");
        let supervised = peer.supervise(&self.connector.membership, direct, Some(IDLE));
        let end = tokio::select! {
            end = supervised => end,
            never = peer.listen(self.connector.keep_alive) => match never {},
        };
        open.dec();
        tracing::debug!(endpoint = %peer, reason = peer.reason(&end), cause = close_reason_text(&end), "disconnected");
        self.lock().slots.retain(|_, slot| !matches!(slot, Slot::Up(other) if Arc::ptr_eq(other, peer)));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves when there is no doubt about `old` any more.
async fn recovered(old: Option<Arc<Peer>>) -> Arc<Peer> {
    let Some(peer) = old else { return pending().await };
    peer.doubt(false).await;
    peer
}

impl State {
    /// The peer of `key` that streams may be opened on.
    fn usable(&self, key: Key) -> Option<&Arc<Peer>> {
        self.slots.get(&key).and_then(Slot::usable)
    }

    /// An attempt to connect to `key` failed; the connection that it was to replace stays, if it stands.
    fn failed(&mut self, key: Key, old: Option<Arc<Peer>>) {
        match old.filter(|old| old.is_open()) {
            Some(old) => drop(self.slots.insert(key, Slot::Up(old))),
            None => drop(self.slots.remove(&key)),
        }
    }

    /// Lets `new` take the place of `old`, which ends with its last stream, unless it is another instance's and still looked for. Both
    /// are of one class: the connections of the other one are no duplicates.
    fn supersede(&mut self, old: &Arc<Peer>, new: &Arc<Peer>) {
        if (old.cluster, old.instance) == (new.cluster, new.instance) {
            for slot in self.slots.values_mut() {
                if matches!(slot, Slot::Up(peer) if Arc::ptr_eq(peer, old)) {
                    *slot = Slot::Up(Arc::clone(new));
                }
            }
        }
        let mut left = self.slots.values().filter_map(Slot::peer);
        if !left.any(|peer| Arc::ptr_eq(peer, old)) {
            old.supersede();
        }
    }
}
