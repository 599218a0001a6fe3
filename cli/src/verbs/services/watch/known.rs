//! What a watch has shown, and what of the events of a connection is news.
//!
//! Connections end, gateways change, and a gateway that does not remember tells everything anew: what was shown already is not
//! shown again, what went meanwhile is shown as gone, and everything is shown in the order in which it was told.

use causeway_gateway::admin::api::{Service, ServiceEvent};
use std::collections::{BTreeMap, BTreeSet};

/// What is to be shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum News {
    /// The service is as it is here.
    Set(Service),
    /// The service is no more.
    Removed(String),
    /// Everything there is has been shown; what follows are changes. Once.
    Synced(u64),
}

/// What was shown.
pub(super) struct Known {
    /// What stands for a state of a service: states that are shown alike are equal.
    state_of: fn(&Service) -> u64,
    shown: BTreeMap<String, u64>,
    /// The names that were told since a snapshot began, while it lasts.
    snapshot: Option<BTreeSet<String>>,
    cursor: Option<String>,
    /// Whether what was shown is what there was at the cursor, and changes after it.
    whole: bool,
    synced: bool,
}

impl Known {
    pub(super) fn new(state_of: fn(&Service) -> u64) -> Self {
        Self { state_of, shown: BTreeMap::new(), snapshot: None, cursor: None, whole: false, synced: false }
    }

    /// What to resume from.
    pub(super) fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// Whether changes since the cursor are enough. After a snapshot that was cut off they are not: it was of another view.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// What of `event` is news.
    pub(super) fn take(&mut self, event: ServiceEvent) -> Vec<News> {
        match event {
            ServiceEvent::Snapshot { .. } => {
                self.snapshot = Some(BTreeSet::new());
                self.whole = false;
                Vec::new()
            }
            ServiceEvent::Resumed { .. } => {
                self.snapshot = None;
                Vec::new()
            }
            ServiceEvent::Set { service } => self.set(service).into_iter().collect(),
            ServiceEvent::Removed { name } => {
                if let Some(told) = &mut self.snapshot {
                    told.remove(&name);
                }
                self.remove(name).into_iter().collect()
            }
            ServiceEvent::Synced { revision } => self.sync(revision),
            ServiceEvent::Cursor { cursor, .. } => {
                self.cursor = Some(cursor);
                self.whole = self.snapshot.is_none();
                Vec::new()
            }
        }
    }

    fn set(&mut self, service: Service) -> Option<News> {
        if let Some(told) = &mut self.snapshot {
            told.insert(service.name.clone());
        }
        let state = (self.state_of)(&service);
        let shown = self.shown.insert(service.name.clone(), state);
        (shown != Some(state)).then_some(News::Set(service))
    }

    fn remove(&mut self, name: String) -> Option<News> {
        self.shown.remove(&name).map(|_| News::Removed(name))
    }

    fn sync(&mut self, revision: u64) -> Vec<News> {
        let told = self.snapshot.take();
        let gone: Vec<String> = match &told {
            Some(told) => self.shown.keys().filter(|name| !told.contains(*name)).cloned().collect(),
            None => Vec::new(),
        };
        let removed = gone.into_iter().filter_map(|name| self.remove(name)).collect::<Vec<_>>();
        let synced = (!std::mem::replace(&mut self.synced, true)).then_some(News::Synced(revision));
        removed.into_iter().chain(synced).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::service;
    use super::super::screen::state_of;
    use super::*;
    use crate::output::ListFormat;
    use proptest::prelude::*;

    /// A gateway: what there is, and which of it changed lately.
    #[derive(Clone, Default)]
    struct Server {
        services: BTreeMap<String, u32>,
        changed: Vec<String>,
        remembers_from: usize,
    }

    impl Server {
        fn change(&mut self, name: u8, healthy: Option<u32>) {
            let name = format!("s{name}.shop");
            match healthy {
                Some(healthy) => drop(self.services.insert(name.clone(), healthy)),
                None => drop(self.services.remove(&name)),
            }
            self.changed.push(name);
        }

        fn event(&self, name: &str) -> ServiceEvent {
            match self.services.get(name) {
                Some(healthy) => ServiceEvent::Set { service: with(name, *healthy) },
                None => ServiceEvent::Removed { name: name.to_owned() },
            }
        }

        fn told(events: &mut Vec<ServiceEvent>, at: usize) {
            events.push(ServiceEvent::Cursor { revision: 1, cursor: at.to_string() });
        }

        /// What a connection is told at its beginning.
        fn connect(&self, cursor: Option<usize>) -> Vec<ServiceEvent> {
            let node = || "01".to_owned();
            let mut events = Vec::new();
            match cursor.filter(|cursor| (self.remembers_from..=self.changed.len()).contains(cursor)) {
                Some(cursor) => {
                    events.push(ServiceEvent::Resumed { node: node(), revision: 1 });
                    let names: BTreeSet<&String> = self.changed[cursor..].iter().collect();
                    events.extend(names.into_iter().map(|name| self.event(name)));
                }
                None => {
                    events.push(ServiceEvent::Snapshot { node: node(), revision: 1 });
                    events.extend(self.services.keys().map(|name| self.event(name)));
                }
            }
            events.push(ServiceEvent::Synced { revision: 1 });
            Self::told(&mut events, self.changed.len());
            events
        }

        /// What a connection is told of the changes after the first `seen`.
        fn follow(&self, seen: usize) -> Vec<ServiceEvent> {
            let names: BTreeSet<&String> = self.changed[seen..].iter().collect();
            let mut events: Vec<ServiceEvent> = names.into_iter().map(|name| self.event(name)).collect();
            Self::told(&mut events, self.changed.len());
            events
        }
    }

    fn with(name: &str, healthy: u32) -> Service {
        let mut service = service(name);
        service.offers[0].healthy = healthy;
        service
    }

    #[derive(Clone, Debug)]
    enum Step {
        Change(u8, Option<u32>),
        /// The gateway forgets older changes, as one does that restarts or is another.
        Forget,
        /// What the gateway has to tell arrives up to so many events; a cut ends the connection there.
        Deliver {
            most: usize,
            cut: bool,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0_u8..6, proptest::option::weighted(0.7, 0_u32..3)).prop_map(|(name, healthy)| Step::Change(name, healthy)),
            1 => Just(Step::Forget),
            3 => (0_usize..9, any::<bool>()).prop_map(|(most, cut)| Step::Deliver { most, cut }),
        ]
    }

    /// The watch under test, and what its screen came to.
    struct Client {
        known: Known,
        screen: BTreeMap<String, u32>,
        waiting: Option<Vec<ServiceEvent>>,
        followed: usize,
        synced: usize,
    }

    impl Client {
        fn deliver(&mut self, server: &Server, most: usize, cut: bool) -> Result<(), TestCaseError> {
            let cursor =
                self.known.cursor().filter(|_| self.known.is_whole()).map(|cursor| cursor.parse().unwrap());
            let mut events = match self.waiting.take() {
                None => server.connect(cursor),
                Some(mut waiting) => {
                    waiting.extend(server.follow(self.followed));
                    waiting
                }
            };
            self.followed = server.changed.len();
            let rest = events.split_off(most.min(events.len()));
            for event in events {
                for news in self.known.take(event) {
                    self.show(news)?;
                }
            }
            self.waiting = (!cut).then_some(rest);
            Ok(())
        }

        fn show(&mut self, news: News) -> Result<(), TestCaseError> {
            match news {
                News::Set(service) => {
                    let healthy = service.offers[0].healthy;
                    let before = self.screen.insert(service.name.clone(), healthy);
                    prop_assert_ne!(before, Some(healthy), "{} was shown again", service.name);
                }
                News::Removed(name) => {
                    let was_there = self.screen.remove(&name).is_some();
                    prop_assert!(was_there, "{name} was removed and never shown");
                }
                News::Synced(_) => self.synced += 1,
            }
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn what_was_shown_is_what_there_is_and_nothing_is_shown_twice(
            steps in proptest::collection::vec(step(), 0..60),
            format in prop_oneof![Just(ListFormat::Table), Just(ListFormat::Json)],
        ) {
            let mut server = Server::default();
            let known = Known::new(state_of(format));
            let mut client = Client { known, screen: BTreeMap::new(), waiting: None, followed: 0, synced: 0 };
            for step in steps {
                match step {
                    Step::Change(name, healthy) => server.change(name, healthy),
                    Step::Forget => server.remembers_from = server.changed.len(),
                    Step::Deliver { most, cut } => client.deliver(&server, most, cut)?,
                }
            }
            client.deliver(&server, usize::MAX, false)?;
            prop_assert_eq!(&client.screen, &server.services);
            prop_assert_eq!(client.synced, 1);
        }

        /// While a connection holds, what is shown of a service are the states it was told to have, in that order.
        #[test]
        fn every_change_of_a_held_connection_is_shown_in_order(
            changes in proptest::collection::vec((0_u8..4, proptest::option::of(0_u32..3)), 0..40),
        ) {
            let mut known = Known::new(state_of(ListFormat::Table));
            let mut expected: Vec<News> = Vec::new();
            let mut shown: Vec<News> = Vec::new();
            let mut state: BTreeMap<String, u32> = BTreeMap::new();
            let start = [ServiceEvent::Snapshot { node: "01".into(), revision: 1 }, ServiceEvent::Synced { revision: 1 }];
            start.into_iter().for_each(|event| drop(known.take(event)));
            for (name, healthy) in changes {
                let name = format!("s{name}.shop");
                let event = match healthy {
                    Some(healthy) => {
                        if state.insert(name.clone(), healthy) != Some(healthy) {
                            expected.push(News::Set(with(&name, healthy)));
                        }
                        ServiceEvent::Set { service: with(&name, healthy) }
                    }
                    None => {
                        if state.remove(&name).is_some() {
                            expected.push(News::Removed(name.clone()));
                        }
                        ServiceEvent::Removed { name }
                    }
                };
                shown.extend(known.take(event));
            }
            prop_assert_eq!(shown, expected);
        }
    }

    #[test]
    fn a_snapshot_that_was_cut_off_is_asked_for_again() {
        let mut known = Known::new(state_of(ListFormat::Table));
        for event in Server::default().connect(None) {
            known.take(event);
        }
        assert!(known.is_whole() && known.cursor() == Some("0"));
        known.take(ServiceEvent::Snapshot { node: "02".into(), revision: 1 });
        assert!(!known.is_whole() && known.cursor() == Some("0"), "the cursor still says what is too old");
    }
}
