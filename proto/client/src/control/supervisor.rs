//! Keeps sessions with the best gateways, and says how they are. The only writer of [`ControlState`].

use super::choose::{Candidate, Held, plan};
use super::generations::Generations;
use super::pace::{Need, Pace, leave_at};
use super::picture::{ControlState, Picture};
use super::registration::RegistrationError;
use super::session::{Event, Lost, Request, Session};
use crate::throttle::Throttle;
use causeway_model::{GatewayRole, NodeId};
use causeway_runtime::{Backoff, Tasks};
use causeway_transport::{GatewayStatus, OverlayEndpoint};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How often the gateways are looked at: one that died is replaced within twice this.
const LOOK: Duration = Duration::from_millis(50);
/// How long there must have been no connection to a gateway that answers before the sidecar calls itself alone.
const ALONE_AFTER: Duration = Duration::from_secs(1);
/// The same right after the start, when no probe has been answered yet.
const ALONE_AT_START_AFTER: Duration = Duration::from_secs(3);
/// The shortest and the longest wait before a gateway that failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The same for one that said that it has too much to do.
const RETRY_OVERLOADED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// A session that lived this long was a success.
const LIVED: Duration = Duration::from_secs(10);
/// How long a gateway that said that it would stop is left alone.
const DRAINED: Duration = Duration::from_secs(3);
/// How often the loss of one gateway's session is told.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// The most events that wait; sessions wait when there are more.
const EVENTS: usize = 64;
/// The most requests that wait in a session.
const REQUESTS: usize = 8;

/// A session that runs.
struct Running {
    generations: Generations,
    /// Its gateway was started again meanwhile.
    orphaned: bool,
    stop: CancellationToken,
    requests: mpsc::Sender<Request>,
    connected: bool,
    registered: bool,
    refused: Option<(RegistrationError, bool)>,
    /// Its gateway said that it is about to stop: when to leave it, once there is another.
    leave_at: Option<Instant>,
}

/// What is known of a gateway beyond its session.
struct Past {
    alive: bool,
    /// Since when it has answered, or not.
    since: Instant,
    backoff: Backoff,
    overloaded: Backoff,
    retry_at: Instant,
    cause: Option<String>,
    say: Throttle,
}

impl Past {
    fn new(now: Instant) -> Self {
        Self {
            alive: false,
            since: now,
            backoff: Backoff::new(RETRY.0, RETRY.1),
            overloaded: Backoff::new(RETRY_OVERLOADED.0, RETRY_OVERLOADED.1),
            retry_at: now,
            cause: None,
            say: Throttle::new(SAY_EVERY),
        }
    }

    /// The session with it was lost: not again before a while.
    fn put_off(&mut self, now: Instant, lost: &Lost, random: f64) {
        let backoff = if lost.overloaded { &mut self.overloaded } else { &mut self.backoff };
        self.retry_at = self.retry_at.max(now + backoff.next_delay(random));
    }

    /// The session with it was a success.
    fn lived(&mut self) {
        self.backoff.reset();
        self.overloaded.reset();
    }
}

pub(super) struct Supervisor {
    picture: Arc<Picture>,
    endpoint: OverlayEndpoint,
    count: usize,
    tasks: Tasks,
    tell: mpsc::Sender<(NodeId, Event)>,
    events: mpsc::Receiver<(NodeId, Event)>,
    running: BTreeMap<NodeId, Running>,
    past: BTreeMap<NodeId, Past>,
    pace: Pace,
    lonely_since: Option<Instant>,
    alone_after: Duration,
}

impl Supervisor {
    pub(super) fn new(picture: Arc<Picture>, endpoint: OverlayEndpoint, count: usize, tasks: Tasks) -> Self {
        let (tell, events) = mpsc::channel(EVENTS);
        Self {
            picture,
            endpoint,
            count,
            tasks,
            tell,
            events,
            running: BTreeMap::new(),
            past: BTreeMap::new(),
            pace: Pace::default(),
            lonely_since: None,
            alone_after: ALONE_AT_START_AFTER,
        }
    }

    pub(super) async fn run(mut self) {
        let token = self.tasks.token();
        loop {
            self.look(Instant::now());
            tokio::select! {
                () = token.cancelled() => return,
                event = self.events.recv() => {
                    if let Some((node, event)) = event {
                        self.take(node, event, Instant::now());
                    }
                }
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn look(&mut self, now: Instant) {
        let statuses = self.picture.overlay.gateways();
        self.end_orphans(&statuses);
        self.picture.expire(now);
        let candidates = self.candidates(&statuses, now);
        let alive = self.past.values().filter(|past| past.alive).count();
        self.picture.metrics.gateways_alive.set(i64::try_from(alive).unwrap_or(i64::MAX));
        if !self.picture.leaving.is_cancelled() {
            let held: Vec<Held> = self
                .running
                .iter()
                .map(|(&node, session)| Held { node, ready: session.registered || session.refused.is_some() })
                .collect();
            let plan = plan(self.picture.workload, self.count, &candidates, &held);
            if self.may_start(now, !plan.start.is_empty()) {
                plan.start.into_iter().for_each(|node| self.start(node, &statuses));
            }
            for node in plan.stop {
                if let Some(session) = self.running.get(&node) {
                    session.stop.cancel();
                }
            }
        }
        self.publish(now, alive > 0);
    }

    /// Whether a session that is `wanted` may begin now.
    fn may_start(&mut self, now: Instant, wanted: bool) -> bool {
        let working = self.working();
        if !wanted {
            self.pace.rest(working.len());
            return false;
        }
        let leaves = self.running.values().any(|session| session.leave_at.is_some_and(|at| at <= now));
        let need = Need { working: working.len(), leaves: leaves && !working.is_empty() };
        self.pace.may_start(now, need, rand::random())
    }

    /// The gateways with a session that works, and that are here to stay.
    fn working(&self) -> Vec<NodeId> {
        let alive = |node: &NodeId| self.past.get(node).is_some_and(|past| past.alive);
        let works = |(node, session): &(&NodeId, &Running)| {
            session.registered && session.leave_at.is_none() && alive(node)
        };
        self.running.iter().filter(works).map(|(&node, _)| node).collect()
    }

    /// Ends the sessions whose gateway was started again: it knows nothing of them, and this side would notice only by silence.
    fn end_orphans(&mut self, statuses: &[GatewayStatus]) {
        for (&node, session) in &mut self.running {
            if session.generations.has_grown(node, statuses) && !session.orphaned {
                session.orphaned = true;
                session.stop.cancel();
            }
        }
    }

    /// The gateways that speak the control protocol, as seen at `now`.
    fn candidates(&mut self, statuses: &[GatewayStatus], now: Instant) -> Vec<Candidate> {
        let facts = self.picture.gateways.borrow().clone();
        let answering: BTreeSet<NodeId> = statuses.iter().filter(|s| s.alive).map(|s| s.node).collect();
        self.past.retain(|node, _| facts.iter().any(|gateway| gateway.node == *node));
        let another_works = !self.working().is_empty();
        let mut candidates = Vec::new();
        for gateway in facts.iter() {
            let node = gateway.node;
            let past = self.past.entry(node).or_insert_with(|| Past::new(now));
            let alive = answering.contains(&node);
            if std::mem::replace(&mut past.alive, alive) != alive {
                past.since = now;
            }
            if gateway.role != GatewayRole::Gateway {
                continue;
            }
            let blocked = match self.running.get(&node) {
                // it may stop any moment: who has no other session does not wait
                Some(session) => session.leave_at.is_some_and(|at| at <= now || !another_works),
                None => now < past.retry_at,
            };
            let since = now.saturating_duration_since(past.since);
            let distance = self.picture.distance(gateway);
            candidates.push(Candidate { node, distance, alive, since, blocked });
        }
        candidates
    }

    fn start(&mut self, node: NodeId, statuses: &[GatewayStatus]) {
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let stop = self.tasks.token().child_token();
        let session = Session {
            picture: self.picture.clone(),
            endpoint: self.endpoint.clone(),
            node,
            requests: receiver,
            events: self.tell.clone(),
            stop: stop.clone(),
        };
        self.tasks.spawn(format!("control-session-{node}"), session.run());
        let mut generations = Generations::default();
        generations.has_grown(node, statuses);
        let running = Running {
            generations,
            orphaned: false,
            stop,
            requests,
            connected: false,
            registered: false,
            refused: None,
            leave_at: None,
        };
        self.running.insert(node, running);
    }

    fn take(&mut self, node: NodeId, event: Event, now: Instant) {
        if let Event::Ended { lost, lived } = event {
            return self.ended(node, lost, lived, now);
        }
        let Some(session) = self.running.get_mut(&node) else { return };
        match event {
            Event::Connected => {
                session.connected = true;
                self.picture.set_session(node, Some(session.requests.clone()));
                self.picture.metrics.connections.inc();
                tracing::info!(gateway = %node, "control connection stands");
            }
            Event::Registered => {
                session.registered = true;
                session.refused = None;
                if let Some(past) = self.past.get_mut(&node) {
                    past.cause = None;
                }
            }
            Event::Refused { refusal, fatal } => {
                let error = RegistrationError { reason: refusal.reason, message: refusal.message };
                session.registered = false;
                let news =
                    session.refused.as_ref().is_none_or(|(known, was)| *known != error || *was != fatal);
                if news {
                    tracing::error!(gateway = %node, reason = error.reason, message = error.message, fatal, "the gateway refused to register this workload");
                }
                session.refused = Some((error, fatal));
            }
            Event::Draining => {
                session.leave_at.get_or_insert_with(|| leave_at(now, rand::random()));
                tracing::info!(gateway = %node, "the gateway is about to stop");
            }
            Event::Ended { .. } => {}
        }
    }

    fn ended(&mut self, node: NodeId, lost: Option<Lost>, lived: Duration, now: Instant) {
        let Some(session) = self.running.remove(&node) else { return };
        self.picture.lost(node);
        if session.connected {
            self.picture.metrics.connections.dec();
        }
        let leaving = self.picture.leaving.is_cancelled();
        let Some(past) = self.past.get_mut(&node) else { return };
        if session.orphaned && lost.is_none() && !leaving {
            self.picture.metrics.reconnects.inc();
            tracing::info!(gateway = %node, "the gateway was started again, connecting anew");
            return;
        }
        if session.leave_at.is_some() {
            past.retry_at = now + DRAINED;
        }
        let Some(lost) = lost.filter(|_| !leaving) else { return };
        self.picture.metrics.reconnects.inc();
        if lived >= LIVED && session.connected {
            past.lived();
        }
        past.put_off(now, &lost, rand::random());
        if past.say.pass(now) {
            let stood = session.connected;
            tracing::warn!(gateway = %node, stood, cause = lost.cause, "control connection lost, trying again");
        }
        past.cause = Some(lost.cause);
    }

    fn publish(&mut self, now: Instant, any_alive: bool) {
        let connected: Vec<NodeId> =
            self.running.iter().filter(|(_, session)| session.connected).map(|(&node, _)| node).collect();
        // at the address of a lost gateway another one may answer; and a connection to one that does not answer times out later
        let answers = |node: &NodeId| self.past.get(node).is_some_and(|past| past.alive);
        let lonely = !connected.iter().any(answers);
        self.lonely_since = if lonely { Some(self.lonely_since.unwrap_or(now)) } else { None };
        let leaving = self.picture.leaving.is_cancelled();
        let alone_since = self
            .lonely_since
            .filter(|&since| !leaving && now.saturating_duration_since(since) >= self.alone_after);
        if !lonely {
            self.alone_after = ALONE_AFTER;
        }
        let registered = self.running.values().any(|session| session.registered);
        let refused = || {
            self.running
                .values()
                .filter_map(|session| session.refused.clone())
                .max_by_key(|(_, fatal)| *fatal)
        };
        let refused = if registered { None } else { refused() };
        let lost = || self.past.iter().find_map(|(node, past)| Some((node, past.cause.as_ref()?)));
        let error = match &refused {
            Some((error, _)) => Some(error.to_string()),
            None if registered => None,
            None => lost().map(|(node, cause)| format!("gateway {node}: {cause}")),
        };
        // a gateway that has not answered yet may know better
        let unanswered = self
            .running
            .values()
            .any(|session| session.connected && !session.registered && session.refused.is_none());
        let registration_error = refused.filter(|(_, fatal)| *fatal && !unanswered).map(|(error, _)| error);
        self.say_alone(alone_since, any_alive, connected.len());
        let state = ControlState { connected, registered, error, registration_error, alone_since };
        self.picture.state.send_if_modified(|known| {
            let news = *known != state;
            *known = state;
            news
        });
    }

    /// Logs the beginning and the end of being alone.
    fn say_alone(&self, alone_since: Option<Instant>, any_alive: bool, connections: usize) {
        let was = self.picture.state.borrow().alone_since;
        self.picture.metrics.alone.set(i64::from(alone_since.is_some()));
        match (was, alone_since) {
            (None, Some(_)) => tracing::warn!(
                probes_answered = any_alive,
                known_services = self.picture.views.count_known(),
                svid_expires_at =
                    crate::moment::show(crate::moment::unix(self.picture.svid.current().not_after())),
                "no gateway answers: connections inside the cluster go on, services are used as last known, and nothing \
                 new is learned until a gateway is back"
            ),
            (Some(since), None) => {
                tracing::info!(after = ?since.elapsed(), connections, "gateways answer again");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_is_overloaded_is_left_alone_for_longer() {
        let now = Instant::now();
        let lost = |overloaded| Lost { cause: "x".into(), overloaded };
        for random in [0.0, 0.5, 0.999] {
            let mut past = Past::new(now);
            past.put_off(now, &lost(false), random);
            assert!(past.retry_at <= now + 2 * RETRY.0);
            past.put_off(now, &lost(true), random);
            assert!(past.retry_at >= now + Duration::from_secs(1), "it starts at a second");
            let first = past.retry_at;
            for _ in 0..10 {
                past.put_off(now, &lost(true), 0.999);
            }
            assert!(past.retry_at > first && past.retry_at <= now + RETRY_OVERLOADED.1);
            past.lived();
            past.retry_at = now;
            past.put_off(now, &lost(true), 0.0);
            assert_eq!(past.retry_at, now + RETRY_OVERLOADED.0);
        }
    }
}
