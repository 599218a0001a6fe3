//! A watcher of a cluster's services, as `causeway services --watch` is one, which does not stay at one gateway: when its stream
//! ends, and now and then of its own accord, it goes on at the next gateway from where it was.

use crate::admin::Admin;
use crate::fleet::Fleet;
use crate::view::{View, service};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Between two attempts to begin.
const PAUSE: Duration = Duration::from_millis(100);
/// How long it stays at one gateway.
const STAY: Duration = Duration::from_secs(7);

/// A running watcher. It ends with its stream once this is dropped.
#[derive(Debug)]
pub struct Watcher {
    name: String,
    shared: Arc<Shared>,
}

/// What a watcher was told, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Streams that began.
    pub streams: u64,
    /// Those of them that went on from where the last one ended.
    pub resumed: u64,
    /// Events.
    pub events: u64,
    /// Events of a stream that had told everything, and which told what was known.
    pub repeats: u64,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    streams: AtomicU64,
    resumed: AtomicU64,
    events: AtomicU64,
    repeats: AtomicU64,
    admins: Mutex<Vec<Admin>>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// As they were told.
    services: BTreeMap<String, Value>,
    /// Whether the stream has told everything that there was.
    synced: bool,
    /// From where the next stream can go on.
    cursor: Option<String>,
}

impl Watcher {
    /// Watches all services, first at the gateway with that index.
    pub fn start(fleet: &Fleet, first: usize) -> Self {
        let shared = Arc::new(Shared { admins: Mutex::new(fleet.admins()), ..Shared::default() });
        let watcher = Self { name: format!("watcher {first} of {}", fleet.name()), shared: shared.clone() };
        std::thread::spawn(move || shared.run(first));
        watcher
    }

    /// The gateways have changed.
    pub fn use_gateways(&self, fleet: &Fleet) {
        *self.shared.admins.lock().unwrap() = fleet.admins();
    }

    /// What it was told so far.
    pub fn watched(&self) -> Watched {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shared = &self.shared;
        Watched {
            streams: count(&shared.streams),
            resumed: count(&shared.resumed),
            events: count(&shared.events),
            repeats: count(&shared.repeats),
        }
    }

    /// How what it has seen differs from what a gateway answers; nothing if it does not.
    pub fn difference(&self, view: &View) -> Option<String> {
        let seen = self.shared.seen.lock().unwrap();
        if !seen.synced {
            return Some(format!("{} has no stream", self.name));
        }
        let seen = View { services: seen.services.values().map(service).collect(), ..View::default() };
        let view = View { services: view.services.clone(), ..View::default() };
        seen.difference(&view).map(|what| format!("{}: {what}", self.name))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl std::ops::AddAssign for Watched {
    fn add_assign(&mut self, other: Self) {
        self.streams += other.streams;
        self.resumed += other.resumed;
        self.events += other.events;
        self.repeats += other.repeats;
    }
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn run(&self, first: usize) {
        for at in first * 2.. {
            if self.stopped() {
                return;
            }
            let admin = {
                let admins = self.admins.lock().unwrap();
                // twice at each gateway: where it was it can resume, elsewhere nobody knows its cursor
                admins[at / 2 % admins.len()].clone()
            };
            let cursor = self.seen.lock().unwrap().cursor.clone();
            let from = cursor.map(|cursor| format!("&resume={cursor}")).unwrap_or_default();
            match admin.lines(&format!("/v1/services?watch=true{from}")) {
                Ok(lines) => self.follow(lines),
                Err(_) => std::thread::sleep(PAUSE),
            }
            self.seen.lock().unwrap().synced = false;
        }
    }

    fn follow(&self, lines: impl Iterator<Item = String>) {
        self.streams.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        // without a cursor a stream begins with everything, and need not say so
        if self.seen.lock().unwrap().cursor.is_none() {
            self.begin();
        }
        for line in lines {
            // a line that was cut off is the stream's end
            let Ok(event) = serde_json::from_str::<Value>(&line) else { return };
            self.events.fetch_add(1, Ordering::Relaxed);
            self.take(&event);
            if self.stopped() || began.elapsed() > STAY {
                return;
            }
        }
    }

    fn begin(&self) {
        self.seen.lock().unwrap().services.clear();
    }

    fn take(&self, event: &Value) {
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        match event["type"].as_str() {
            Some("snapshot") => return self.begin(),
            Some("resumed") => drop(self.resumed.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
        let mut seen = self.seen.lock().unwrap();
        let repeats = match event["type"].as_str() {
            Some("set") => {
                let service = &event["service"];
                let name = service["name"].as_str().unwrap_or_default().to_owned();
                seen.services.insert(name, service.clone()).as_ref() == Some(service)
            }
            Some("removed") => seen.services.remove(&text("name")).is_none(),
            Some("synced") => {
                seen.synced = true;
                false
            }
            Some("cursor") => {
                seen.cursor = Some(text("cursor"));
                false
            }
            _ => false,
        };
        self.repeats.fetch_add(u64::from(repeats && seen.synced), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(name: &str, healthy: u32) -> Value {
        let offer = json!({"cluster": "iad", "healthy": healthy, "origin": "local", "endpoints": []});
        json!({"type": "set", "service": {"name": name, "offers": [offer]}})
    }

    /// What a watcher has seen after these events, and how many of them were repeats.
    fn after(streams: &[&[Value]]) -> (Vec<String>, u64, bool) {
        let shared = Shared::default();
        for stream in streams {
            shared.seen.lock().unwrap().synced = false;
            shared.follow(stream.iter().map(Value::to_string));
        }
        let seen = shared.seen.into_inner().unwrap();
        let names = seen.services.iter();
        let healthy = |service: &Value| service["offers"][0]["healthy"].clone();
        let names = names.map(|(name, service)| format!("{name} {}", healthy(service))).collect();
        (names, shared.repeats.into_inner(), seen.synced)
    }

    #[test]
    fn a_stream_without_a_cursor_begins_with_everything_and_one_with_it_goes_on() {
        let (synced, cursor) = (json!({"type": "synced"}), json!({"type": "cursor", "cursor": "1.2"}));
        let first = [set("a.x", 1), set("b.x", 1), synced.clone()];
        let told = |streams: &[&[Value]]| after(streams).0;
        assert_eq!(told(&[&first, &[set("b.x", 2), synced.clone()]]), ["b.x 2"]);
        let first = [&first[..], &[cursor]].concat();
        assert_eq!(told(&[&first, &[json!({"type": "resumed"}), set("b.x", 2)]]), ["a.x 1", "b.x 2"]);
        assert_eq!(told(&[&first, &[json!({"type": "snapshot"}), set("b.x", 2)]]), ["b.x 2"]);
        assert_eq!(told(&[&first, &[json!({"type": "removed", "name": "a.x"})]]), ["b.x 1"]);
    }

    #[test]
    fn what_is_told_twice_is_counted_once_everything_was_told() {
        let synced = json!({"type": "synced"});
        let removed = json!({"type": "removed", "name": "b.x"});
        let events = [set("a.x", 1), set("a.x", 1), synced, set("a.x", 1), set("a.x", 2), removed];
        assert_eq!(after(&[&events]), (vec!["a.x 2".to_owned()], 2, true));
    }
}
