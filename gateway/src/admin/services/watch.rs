//! A watch: everything there is, then what changes, one JSON object a line, until the gateway drains.
//!
//! A watcher holds 16 bytes of every service that it told, so that the same is not told twice, and the names of those that it has
//! to look at again, each once. The stream is pulled by the client's connection: one that does not read holds up nobody,
//! and what it misses meanwhile comes to one look at each service that changed, or at all of them when there were too many.
//!
//! Between the lines are cursors. A watch that resumes from one is told what changed since, or, when nobody remembers, everything
//! anew, marked as such.

#[cfg(test)]
mod tests;
mod told;

use super::view::services;
use super::walk::Walk;
use super::{Filter, TURN};
use crate::admin::api::ServiceEvent;
use crate::hub::{Change, Hub, News, Position};
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use causeway_model::ServiceName;
use futures_util::stream;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};
use tokio::time::{Instant, sleep_until};
use told::Told;

/// How often a quiet watch sends a line, so that nobody in between takes the connection for dead.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Lines are sent together up to about so many bytes.
const CHUNK: usize = 64 * 1024;
/// The most services that wait to be looked at; of more, all are looked at.
const MAX_DIRTY: usize = 16_384;

/// The answer to a watch, which goes on after `resume` if it can.
pub(super) fn stream(hub: Hub, filter: Filter, resume: Option<Position>) -> Response {
    let lines = stream::unfold(Watcher::new(hub, filter, resume), |mut watcher| async move {
        let lines = watcher.next().await?;
        Some((Ok::<Bytes, Infallible>(lines), watcher))
    });
    let headers = [(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(lines)).into_response()
}

fn line(lines: &mut Vec<u8>, event: &ServiceEvent) {
    // texts and numbers in structs: there is nothing in them that JSON cannot write
    lines.extend(serde_json::to_vec(event).unwrap_or_default());
    lines.push(b'\n');
}

/// Stands for what services owe to the links that they come over. What else a link has changes often, and shows in no service.
fn links_print(hub: &Hub) -> u64 {
    let mut hasher = DefaultHasher::new();
    for link in hub.catalog().links() {
        let rules = (&link.merge_namespaces, &link.stale, link.paused, link.peer_paused);
        (&link.peer, link.established.0, format!("{rules:?}")).hash(&mut hasher);
    }
    hasher.finish()
}

struct Watcher {
    hub: Hub,
    filter: Filter,
    /// Wakes the watcher; what changed is asked of the hub.
    changes: broadcast::Receiver<Change>,
    draining: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    told: Told,
    /// Services to look at.
    dirty: BTreeSet<ServiceName>,
    /// A look at all services, while there is one.
    walk: Option<Walk>,
    /// Whether another look is needed after that one.
    again: bool,
    /// Stands for what links are like.
    links: u64,
    /// What is to be said first.
    opening: Option<ServiceEvent>,
    synced: bool,
    /// Up to where changes were followed, and up to where the client knows that it was told.
    position: Position,
    cursor: Option<Position>,
    /// When something was last sent.
    sent: Instant,
}

impl Watcher {
    fn new(hub: Hub, filter: Filter, resume: Option<Position>) -> Self {
        // first the changes, then what they change: nothing falls in between
        let changes = hub.changes();
        let draining = Box::pin(hub.drain.started());
        let mut watcher = Self {
            changes,
            draining,
            position: resume.unwrap_or_else(|| hub.position()),
            links: links_print(&hub),
            again: false,
            hub,
            filter,
            told: Told::default(),
            dirty: BTreeSet::new(),
            walk: None,
            opening: None,
            synced: false,
            cursor: None,
            sent: Instant::now(),
        };
        match resume {
            Some(_) => watcher.resume(),
            None => watcher.begin(),
        }
        watcher
    }

    /// Tells everything.
    fn begin(&mut self) {
        self.told = Told::of_everything();
        self.dirty.clear();
        self.again = false;
        self.synced = false;
        self.look_at_all();
        let (node, revision) = (self.hub.node.id().to_string(), self.hub.registry.revision().0);
        self.opening = Some(ServiceEvent::Snapshot { node, revision });
    }

    /// Tells what changed since the position.
    fn resume(&mut self) {
        match self.hub.news(&mut self.position) {
            News::These(names) => {
                self.mark(names);
                if self.opening.is_none() {
                    let (node, revision) = (self.hub.node.id().to_string(), self.hub.registry.revision().0);
                    self.opening = Some(ServiceEvent::Resumed { node, revision });
                }
            }
            // to tell all that may have changed is to tell everything
            News::Any(_) | News::Lost => self.begin(),
        }
    }

    fn look_at_all(&mut self) {
        self.walk = self.filter.names.as_ref().map(|pattern| Walk::new(pattern, None));
    }

    /// Takes in what changed meanwhile.
    fn follow(&mut self) {
        match self.hub.news(&mut self.position) {
            News::These(names) => self.mark(names),
            News::Any(names) => {
                let links = links_print(&self.hub);
                if std::mem::replace(&mut self.links, links) != links {
                    // a look that is under way comes to its end first: links may change faster than it
                    self.again = self.walk.is_some();
                    if !self.again {
                        self.look_at_all();
                    }
                }
                self.mark(names);
            }
            News::Lost => self.begin(),
        }
    }

    fn mark(&mut self, names: Vec<ServiceName>) {
        self.dirty.extend(names.into_iter().filter(|name| self.filter.names(name)));
        if self.dirty.len() > MAX_DIRTY {
            self.begin();
        }
    }

    fn is_done(&self) -> bool {
        self.dirty.is_empty() && self.walk.is_none()
    }

    /// The next lines; nothing when the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.hub.drain.is_draining() {
                return None;
            }
            self.follow();
            let mut lines = Vec::new();
            if let Some(opening) = self.opening.take() {
                line(&mut lines, &opening);
            }
            self.turn(&mut lines);
            if self.is_done() && (!self.synced || !lines.is_empty()) {
                self.close(&mut lines);
            }
            if !lines.is_empty() {
                self.sent = Instant::now();
                return Some(lines.into());
            }
            if !self.is_done() {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                () = &mut self.draining => return None,
                heard = self.changes.recv() => self.hear(&heard)?,
                () = sleep_until(self.sent + HEARTBEAT) => return Some(self.heartbeat()),
            }
        }
    }

    /// Says that everything up to here has been told.
    fn close(&mut self, lines: &mut Vec<u8>) {
        if !self.synced {
            self.synced = true;
            line(lines, &ServiceEvent::Synced { revision: self.position.revision.0 });
        }
        if self.cursor != Some(self.position) {
            self.cursor = Some(self.position);
            let cursor = self.position.to_string();
            line(lines, &ServiceEvent::Cursor { revision: self.position.revision.0, cursor });
        }
    }

    /// The line of a quiet watch: a cursor, if what changed meanwhile was not asked for, else an empty one.
    fn heartbeat(&mut self) -> Bytes {
        let mut lines = Vec::new();
        self.close(&mut lines);
        if lines.is_empty() {
            lines.push(b'\n');
        }
        self.sent = Instant::now();
        lines.into()
    }

    /// Looks at some of the services that may have changed, and tells those that did.
    fn turn(&mut self, lines: &mut Vec<u8>) {
        while lines.len() < CHUNK && !self.is_done() {
            let names: Vec<ServiceName> = std::iter::from_fn(|| self.dirty.pop_first()).take(TURN).collect();
            let names = if names.is_empty() { self.walk_on() } else { names };
            self.tell(&names, lines);
            if lines.is_empty() {
                // nothing to send yet: others get their turn
                return;
            }
        }
    }

    fn walk_on(&mut self) -> Vec<ServiceName> {
        let (Some(walk), Some(pattern)) = (&mut self.walk, &self.filter.names) else { return Vec::new() };
        let names = walk.next(&self.hub, pattern, TURN);
        if self.walk.take_if(|walk| walk.is_done()).is_some() && std::mem::take(&mut self.again) {
            self.look_at_all();
        }
        names
    }

    fn tell(&mut self, names: &[ServiceName], lines: &mut Vec<u8>) {
        let found = services(&self.hub, names);
        let mut found = found.into_iter().peekable();
        for name in names {
            let text = name.to_string();
            let now =
                found.next_if(|service| service.name == text).filter(|service| self.filter.takes(service));
            if let Some(event) = self.told.update(&text, now) {
                line(lines, &event);
            }
        }
    }

    /// Takes in that something changed; nothing when there will be no more.
    fn hear(&mut self, first: &Result<Change, RecvError>) -> Option<()> {
        if *first == Err(RecvError::Closed) {
            return None;
        }
        while !matches!(self.changes.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {}
        Some(())
    }
}
