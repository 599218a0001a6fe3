//! A watch: everything there is, then what changes, one JSON object a line, until the gateway drains.
//!
//! What was told is remembered as a fingerprint a service, so that the same is not told twice, whatever was missed or said
//! again in between. The stream is pulled by the client's connection: one that does not read holds up nobody, and looks at
//! everything anew when it has missed too much.

use super::view::service;
use super::{Filter, TURN};
use crate::admin::api::{Service, ServiceEvent};
use crate::hub::{Change, Hub};
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use causeway_catalog::{Event, Replay};
use causeway_model::{Revision, ServiceName};
use futures_util::stream;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, sleep_until};

/// How often a quiet watch sends an empty line, so that nobody in between takes the connection for dead.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Lines are sent together up to about so many bytes.
const CHUNK: usize = 64 * 1024;

/// The answer to a watch.
pub(super) fn stream(hub: Hub, filter: Filter) -> Response {
    let lines = stream::unfold(Watcher::new(hub, filter), |mut watcher| async move {
        let lines = watcher.next().await?;
        Some((Ok::<Bytes, Infallible>(lines), watcher))
    });
    let headers = [(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(lines)).into_response()
}

/// What was told of each service.
#[derive(Debug, Default)]
struct Told(BTreeMap<ServiceName, [u8; 16]>);

impl Told {
    /// What is to be told of `name`, which now is `now`.
    fn update(&mut self, name: &ServiceName, now: Option<Service>) -> Option<ServiceEvent> {
        match now {
            Some(service) => {
                let print = fingerprint(&service);
                let told = self.0.insert(name.clone(), print);
                (told != Some(print)).then_some(ServiceEvent::Set { service })
            }
            None => self.0.remove(name).map(|_| ServiceEvent::Removed { name: name.to_string() }),
        }
    }
}

/// What tells two states of a service apart. For how long an offer has been stale is not part of it, only that it is: it
/// would be another state every second.
fn fingerprint(service: &Service) -> [u8; 16] {
    let mut service = service.clone();
    for offer in &mut service.offers {
        offer.stale_for = offer.stale_for.map(|_| 0);
    }
    let digest: [u8; 32] = Sha256::digest(line(&service)).into();
    std::array::from_fn(|i| digest[i])
}

fn line(value: &impl serde::Serialize) -> Vec<u8> {
    // texts and numbers in structs: there is nothing in them that JSON cannot write
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The services that a change of the catalog may show in.
#[derive(Debug, PartialEq, Eq)]
enum Concerned {
    All,
    These(Vec<ServiceName>),
}

fn concerned(replay: Replay) -> Concerned {
    let Replay::Deltas(deltas) = replay else { return Concerned::All };
    let mut these = Vec::new();
    for (_, event) in deltas {
        match event {
            Event::ServiceChanged(name) | Event::ServiceRemoved(name) | Event::ExportChanged(name) => {
                these.push(name)
            }
            Event::LinkChanged(_) | Event::LinkRemoved(_) => return Concerned::All,
            Event::ClusterChanged | Event::GatewaysChanged | Event::TokensChanged | Event::KeysChanged => {}
        }
    }
    Concerned::These(these)
}

struct Watcher {
    hub: Hub,
    filter: Filter,
    changes: broadcast::Receiver<Change>,
    draining: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    told: Told,
    /// Services to look at.
    dirty: BTreeSet<ServiceName>,
    synced: bool,
    /// The revision up to which changes of the catalog were looked at.
    seen: Revision,
    /// When something was last sent.
    sent: Instant,
}

impl Watcher {
    fn new(hub: Hub, filter: Filter) -> Self {
        // first the changes, then what they change: nothing falls in between
        let changes = hub.changes();
        let draining = Box::pin(hub.drain.started());
        let mut watcher = Self {
            changes,
            draining,
            seen: hub.registry.revision(),
            hub,
            filter,
            told: Told::default(),
            dirty: BTreeSet::new(),
            synced: false,
            sent: Instant::now(),
        };
        watcher.mark_all();
        watcher
    }

    /// The next lines; nothing when the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.hub.drain.is_draining() {
                return None;
            }
            let lines = self.turn();
            if !lines.is_empty() {
                return self.send(lines);
            }
            if !self.dirty.is_empty() {
                tokio::task::yield_now().await;
                continue;
            }
            if !self.synced {
                self.synced = true;
                let synced = ServiceEvent::Synced { revision: self.hub.registry.revision().0 };
                return self.send(line(&synced));
            }
            tokio::select! {
                () = &mut self.draining => return None,
                heard = self.changes.recv() => self.hear(heard)?,
                () = sleep_until(self.sent + HEARTBEAT) => return self.send(b"\n".to_vec()),
            }
        }
    }

    fn send(&mut self, lines: Vec<u8>) -> Option<Bytes> {
        self.sent = Instant::now();
        Some(lines.into())
    }

    /// Looks at some of the services that may have changed.
    fn turn(&mut self) -> Vec<u8> {
        let mut lines = Vec::new();
        for _ in 0..TURN {
            if lines.len() >= CHUNK {
                break;
            }
            let Some(name) = self.dirty.pop_first() else { break };
            let now = service(&self.hub, &name).filter(|service| self.filter.takes(service));
            if let Some(event) = self.told.update(&name, now) {
                lines.extend(line(&event));
            }
        }
        lines
    }

    /// Takes in what was heard, and everything else that waits; nothing when there will be no more.
    fn hear(&mut self, first: Result<Change, RecvError>) -> Option<()> {
        let mut heard = first;
        loop {
            match heard {
                Ok(change) => self.take(change),
                Err(RecvError::Lagged(_)) => self.mark_all(),
                Err(RecvError::Closed) => return None,
            }
            heard = match self.changes.try_recv() {
                Ok(change) => Ok(change),
                Err(broadcast::error::TryRecvError::Lagged(n)) => Err(RecvError::Lagged(n)),
                Err(_) => return Some(()),
            };
        }
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Service(name) => self.mark(name),
            Change::Catalog => {
                let replay = self.hub.registry.events_since(self.seen);
                match &replay {
                    Replay::Snapshot => self.seen = self.hub.registry.revision(),
                    Replay::Deltas(deltas) => {
                        self.seen = deltas.last().map_or(self.seen, |(revision, _)| *revision);
                    }
                }
                match concerned(replay) {
                    Concerned::All => self.mark_all(),
                    Concerned::These(names) => names.into_iter().for_each(|name| self.mark(name)),
                }
            }
            Change::Gone(_) | Change::PeerGone(..) | Change::Wants(_) => {}
        }
    }

    fn mark(&mut self, name: ServiceName) {
        if self.filter.names(&name) {
            self.dirty.insert(name);
        }
    }

    fn mark_all(&mut self) {
        match &self.filter.name {
            Some(name) => drop(self.dirty.insert(name.clone())),
            None => {
                self.dirty.extend(self.hub.service_names());
                self.dirty.extend(self.told.0.keys().cloned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::tests::{offer, service};
    use super::*;

    fn name() -> ServiceName {
        "payments.shop".parse().unwrap()
    }

    fn with(stale_for: Option<u64>, healthy: u32) -> Service {
        service(
            "payments.shop",
            vec![crate::admin::api::Offer { stale_for, healthy, ..offer("phx", "us-phoenix-1") }],
        )
    }

    #[test]
    fn only_differences_are_told() {
        let mut told = Told::default();
        let is_set = |event: &Option<ServiceEvent>| matches!(event, Some(ServiceEvent::Set { .. }));
        assert!(told.update(&name(), None).is_none(), "what was never there is not removed");
        assert!(is_set(&told.update(&name(), Some(with(None, 1)))));
        assert!(told.update(&name(), Some(with(None, 1))).is_none());
        assert!(is_set(&told.update(&name(), Some(with(None, 2)))));
        let removed = told.update(&name(), None);
        assert!(
            matches!(&removed, Some(ServiceEvent::Removed { name }) if name == "payments.shop"),
            "{removed:?}"
        );
        assert!(told.update(&name(), None).is_none());
        assert!(is_set(&told.update(&name(), Some(with(None, 2)))));
    }

    #[test]
    fn growing_staleness_is_no_change_but_its_beginning_and_end_are() {
        let mut told = Told::default();
        let mut events = 0;
        for stale_for in [None, Some(3), Some(4), Some(5), Some(600), None, None] {
            events += usize::from(told.update(&name(), Some(with(stale_for, 1))).is_some());
        }
        assert_eq!(events, 3);
    }

    #[test]
    fn a_change_of_the_catalog_concerns_the_services_it_names() {
        let deltas =
            |events: &[Event]| Replay::Deltas(events.iter().map(|e| (Revision(1), e.clone())).collect());
        let quiet = [Event::TokensChanged, Event::KeysChanged, Event::GatewaysChanged, Event::ClusterChanged];
        assert_eq!(concerned(deltas(&quiet)), Concerned::These(Vec::new()));
        let export = [Event::ExportChanged(name()), Event::TokensChanged];
        assert_eq!(concerned(deltas(&export)), Concerned::These(vec![name()]));
        assert_eq!(concerned(deltas(&[Event::LinkRemoved("phx".parse().unwrap())])), Concerned::All);
        assert_eq!(concerned(Replay::Snapshot), Concerned::All);
    }

    #[test]
    fn an_event_is_one_line() {
        let lines = line(&ServiceEvent::Set { service: with(None, 1) });
        assert_eq!(lines.iter().filter(|&&byte| byte == b'\n').count(), 1);
        assert_eq!(lines.last(), Some(&b'\n'));
    }
}
