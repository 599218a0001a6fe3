//! Watchers: clients that follow a cluster's catalog by its events, through one replica after the other.

use super::{Addr, Arrival, World};
use crate::coverage::Sometimes;
use crate::invariants::{revisions, watches};
use crate::sabotage::Sabotage;
use causeway_catalog::{Event, Replay};
use causeway_model::{Revision, ServiceName};
use std::collections::BTreeSet;
use std::time::Instant;

pub(crate) struct Watcher {
    pub(crate) cluster: usize,
    /// Up to where it has seen everything.
    pub(crate) revision: Revision,
    /// The services of the catalog, as it has followed them.
    pub(crate) services: BTreeSet<ServiceName>,
    session: Option<Session>,
    /// Numbers its sessions: what is under way from an earlier one is lost.
    sessions: u64,
    /// When it goes elsewhere of its own accord.
    moves: Instant,
}

/// The replica that it asks, and what that has sent.
struct Session {
    at: Addr,
    process: u64,
    sent: Revision,
    last: Instant,
    fresh: bool,
}

/// What a replica sends.
pub(crate) enum Delivery {
    Deltas { upto: Revision, events: Vec<(Revision, Event)> },
    Snapshot { at: Revision, services: BTreeSet<ServiceName> },
}

impl World {
    pub(crate) fn add_watcher(&mut self, cluster: usize) {
        let moves = self.now;
        self.watchers.push(Watcher {
            cluster,
            revision: Revision(0),
            services: BTreeSet::new(),
            session: None,
            sessions: 0,
            moves,
        });
    }

    /// Watchers whose replica is gone, or who feel like it, go to another one.
    pub(crate) fn step_watchers(&mut self) {
        for number in 0..self.watchers.len() {
            let watcher = &self.watchers[number];
            let there = watcher.session.as_ref().is_some_and(|session| {
                self.process_id(session.at) == Some(session.process) && self.gateways[session.at].runs()
            });
            if !there || watcher.moves <= self.now {
                self.move_watcher(number);
            }
        }
    }

    fn move_watcher(&mut self, number: usize) {
        let members = self.members(self.watchers[number].cluster);
        let works: Vec<Addr> = members.filter(|at| self.gateways[*at].runs()).collect();
        let moves = self.now + self.rng.ms(300, 5000);
        let Some(at) = self.rng.pick(&works) else { return };
        let (latest, process) = (self.process(at).events.latest(), self.process_id(at).unwrap());
        let (now, sabotage) = (self.now, self.sabotage);
        let watcher = &mut self.watchers[number];
        let mut sent = watcher.revision;
        if latest < sent {
            self.seen.note(Sometimes::WatcherAhead);
        }
        if sabotage == Sabotage::TurnBack {
            sent = sent.min(latest);
        }
        if sabotage == Sabotage::RepeatWatchEvent {
            sent = Revision(sent.0.saturating_sub(1));
        }
        watcher.moves = moves;
        watcher.sessions += 1;
        watcher.session = Some(Session { at, process, sent, last: now, fresh: true });
        if sabotage == Sabotage::TurnBack && sent < watcher.revision {
            let session = watcher.sessions;
            self.watched(number, session, Delivery::Deltas { upto: sent, events: Vec::new() });
        }
    }

    /// A replica sends its watchers what is new.
    pub(crate) fn push_watches(&mut self, at: Addr) {
        let (now, process) = (self.now, self.process_id(at).unwrap());
        let latest = self.process(at).events.latest();
        for number in 0..self.watchers.len() {
            let session = self.watchers[number].session.as_ref();
            let Some(from) = session.filter(|s| (s.at, s.process) == (at, process) && s.sent < latest) else {
                continue;
            };
            let (from, fresh, last) = (from.sent, from.fresh, from.last);
            let replay = self.process(at).events.since(from);
            let delivery = self.delivery(at, latest, replay, fresh && from.0 > 0);
            let arrives = last.max(now + self.rng.ms(1, 40));
            let watcher = &mut self.watchers[number];
            let id = watcher.sessions;
            let session = watcher.session.as_mut().unwrap();
            (session.sent, session.last, session.fresh) = (latest, arrives, false);
            self.later(arrives - now, Arrival::Watched { watcher: number, session: id, delivery });
        }
    }

    fn delivery(&mut self, at: Addr, latest: Revision, replay: Replay, resumed: bool) -> Delivery {
        match replay {
            Replay::Snapshot => {
                if resumed {
                    self.seen.note(Sometimes::WatchResumedBySnapshot);
                }
                let catalog = &self.process(at).catalog;
                let services = catalog.services().map(|service| service.name.clone()).collect();
                Delivery::Snapshot { at: catalog.revision(), services }
            }
            Replay::Deltas(mut events) => {
                if resumed {
                    self.seen.note(Sometimes::WatchResumedByDeltas);
                }
                if self.sabotage == Sabotage::SkipWatchEvent && self.rng.percent(5) {
                    events.pop();
                }
                Delivery::Deltas { upto: latest, events }
            }
        }
    }

    /// What a replica sent arrives.
    pub(crate) fn watched(&mut self, number: usize, session: u64, delivery: Delivery) {
        let watcher = &mut self.watchers[number];
        if watcher.sessions != session {
            return;
        }
        let before = watcher.revision;
        let (now, told) = match delivery {
            Delivery::Snapshot { at, services } => {
                watcher.services = services;
                (at, None)
            }
            Delivery::Deltas { upto, events } => {
                watcher.follow(&events);
                (upto, Some(events))
            }
        };
        watcher.revision = now;
        let history = &self.oracle.clusters[watcher.cluster];
        let checked = revisions::check_step(number, before, now).and_then(|()| match told {
            Some(told) => watches::check_deltas(number, history, (before, now), &told),
            None => Ok(()),
        });
        self.settle(checked);
    }
}

impl Watcher {
    fn follow(&mut self, events: &[(Revision, Event)]) {
        for (_, event) in events {
            match event {
                Event::ServiceChanged(name) => _ = self.services.insert(name.clone()),
                Event::ServiceRemoved(name) => _ = self.services.remove(name),
                _ => {}
            }
        }
    }
}
