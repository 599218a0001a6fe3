//! One connection to each peer that this sidecar calls.
//!
//! Owns that there is one (callers that want the same peer wait for the same attempt), that a dead one is forgotten, that one
//! in doubt is replaced, and that a peer which failed is left alone for a while. Which peer to use is chosen elsewhere.

use super::connect::{Connector, Dial};
use crate::access::Direction;
use crate::choose::Target;
use crate::failure::Failure;
use crate::peer::Peer;
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
/// How long a target is left alone after its first failure; doubles with each further one.
const COOL_FIRST: Duration = Duration::from_millis(500);
/// The longest that a target is left alone.
const COOL_MOST: Duration = Duration::from_secs(30);
/// The most failures that are remembered; beyond it those that are over are dropped.
const MAX_COOLING: usize = 4096;

/// How long one attempt to replace a connection in doubt may take, and how often one is begun at most.
const REPLACE: Duration = Duration::from_secs(1);

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

#[derive(Clone, Copy)]
struct Cooling {
    until: Instant,
    failures: u32,
}

#[derive(Default)]
struct State {
    slots: FxHashMap<Target, Slot>,
    cooling: FxHashMap<Target, Cooling>,
}

/// The connections that this sidecar has begun. Clones share them.
#[derive(Clone)]
pub(crate) struct Pool {
    connector: Arc<Connector>,
    state: Arc<Mutex<State>>,
}

impl Pool {
    pub(crate) fn new(connector: Connector) -> Self {
        Self { connector: Arc::new(connector), state: Arc::default() }
    }

    /// The peer behind `target`, if a connection to it stands that is not in doubt.
    pub(crate) fn up(&self, target: Target) -> Option<Arc<Peer>> {
        self.lock().slots.get(&target).and_then(Slot::usable).cloned()
    }

    /// Whether a connection to `target` stands, and is in doubt.
    pub(crate) fn is_doubtful(&self, target: Target) -> bool {
        let state = self.lock();
        let peer = state.slots.get(&target).and_then(Slot::peer);
        peer.is_some_and(|peer| peer.is_open() && !peer.is_usable())
    }

    /// How many streams are open to `target`.
    pub(crate) fn load(&self, target: Target) -> u32 {
        self.up(target).map_or(0, |peer| peer.streams())
    }

    /// Whether `target` failed a short while ago.
    pub(crate) fn is_cooling(&self, target: Target) -> bool {
        self.lock().cooling.get(&target).is_some_and(|cooling| Instant::now() < cooling.until)
    }

    /// Leaves `target` alone for a while.
    pub(crate) fn cool(&self, target: Target) {
        self.lock().cool(target, Instant::now());
    }

    /// Forgets that `target` failed: it took a stream.
    pub(crate) fn proved(&self, target: Target) {
        self.lock().cooling.remove(&target);
    }

    /// Whether a connection to `target` stands or is being made.
    pub(crate) fn has(&self, target: Target) -> bool {
        self.lock().slots.get(&target).is_some_and(Slot::is_alive)
    }

    /// The peer of `dial`: connected now, or by an attempt that is shared and goes on when this call is dropped, or by the
    /// connection that this attempt would replace, if there is no doubt about it any more.
    ///
    /// # Errors
    /// Why the attempt failed.
    pub(crate) async fn get(&self, dial: Dial) -> Result<Arc<Peer>, Failure> {
        let (mut waiting, old) = match self.begin(dial) {
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
    pub(crate) fn warm(&self, dial: Dial) {
        drop(self.begin(dial));
    }

    fn begin(&self, dial: Dial) -> Slot {
        let target = dial.target;
        let mut state = self.lock();
        let slot = state.slots.get(&target);
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
        state.slots.insert(target, slot.clone());
        drop(state);
        let pool = self.clone();
        self.connector.tasks.spawn("peer", async move { pool.run(dial, old, tell).await });
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
    async fn run(&self, dial: Dial, old: Option<Arc<Peer>>, tell: watch::Sender<Outcome>) {
        let target = dial.target;
        let result = match &old {
            Some(old) => self.replace(&dial, old, &tell).await,
            None => self.connector.connect(&dial, Duration::MAX).await,
        };
        let (peer, direct) = match result {
            Ok((peer, hello)) => (Arc::new(peer), hello.direct),
            Err(failure) => {
                self.connector.metrics.connect_failed(failure.reason());
                tracing::debug!(reason = failure.reason(), %failure, "could not connect to a peer");
                self.lock().failed(target, old);
                tell.send_replace(Some(Err(failure)));
                return;
            }
        };
        let (used, mine) = self.adopt(target, &peer, old.as_ref());
        drop(old);
        tell.send_replace(Some(Ok(used)));
        if mine {
            self.live(&peer, &direct).await;
        } else {
            close(&peer.connection, CloseCode::Superseded, "another connection to this instance stands");
        }
    }

    /// Puts a new connection where it is looked for. A peer that a gateway picked may be one that is connected already: then
    /// that connection is used, and the new one is not. `old` is the one in doubt that it replaces.
    fn adopt(&self, target: Target, peer: &Arc<Peer>, old: Option<&Arc<Peer>>) -> (Arc<Peer>, bool) {
        let own = Target::Endpoint(peer.cluster, peer.instance);
        let mut state = self.lock();
        state.cooling.remove(&target);
        let (mut used, mut replaced) = (Arc::clone(peer), None);
        if target != own {
            match state.slots.get(&own) {
                Some(Slot::Up(other)) if other.is_usable() => used = Arc::clone(other),
                // whoever waits for that attempt is told by it
                Some(Slot::Connecting(..)) => {}
                _ => replaced = state.slots.insert(own, Slot::Up(Arc::clone(peer))),
            }
        }
        state.slots.insert(target, Slot::Up(Arc::clone(&used)));
        for old in old.into_iter().chain(replaced.as_ref().and_then(Slot::peer)) {
            state.supersede(old, &used);
        }
        let mine = Arc::ptr_eq(&used, peer);
        (used, mine)
    }

    async fn live(&self, peer: &Arc<Peer>, direct: &[SocketAddr]) {
        let open = &self.connector.metrics.direction(Direction::Outbound).peers;
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
    /// An attempt to connect to `target` failed; the connection that it was to replace stays, if it stands.
    fn failed(&mut self, target: Target, old: Option<Arc<Peer>>) {
        match old.filter(|old| old.is_open()) {
            Some(old) => drop(self.slots.insert(target, Slot::Up(old))),
            None => drop(self.slots.remove(&target)),
        }
        self.cool(target, Instant::now());
    }

    /// Lets `new` take the place of `old`, which ends with its last stream, unless it is another instance's and still looked for.
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

    /// Failures while the target cools are of attempts that began before, and say nothing new.
    fn cool(&mut self, target: Target, now: Instant) {
        if self.cooling.get(&target).is_some_and(|cooling| now < cooling.until) {
            return;
        }
        if self.cooling.len() >= MAX_COOLING {
            self.cooling.retain(|_, cooling| now < cooling.until);
        }
        let failures = self.cooling.get(&target).map_or(0, |cooling| cooling.failures);
        let wait = COOL_FIRST.saturating_mul(1 << failures.min(16)).min(COOL_MOST);
        if self.cooling.len() < MAX_COOLING || failures > 0 {
            self.cooling.insert(target, Cooling { until: now + wait, failures: failures.saturating_add(1) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_model::{ClusterId, WorkloadId};

    #[test]
    fn failures_at_once_count_as_one() {
        let (mut state, now) = (State::default(), Instant::now());
        let target = Target::Endpoint(ClusterId::new(1).unwrap(), WorkloadId(2));
        for _ in 0..100 {
            state.cool(target, now);
        }
        assert_eq!(state.cooling[&target].until, now + COOL_FIRST);
        state.cool(target, now + COOL_FIRST);
        assert_eq!(state.cooling[&target].until, now + COOL_FIRST * 3);
    }
}
