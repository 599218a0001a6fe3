//! Concurrent clients that read and write exports through any gateway, recorded.

use crate::admin::{Admin, Answer};
use crate::exports::{Export, To, Withdrawn};
use crate::fleet::Fleet;
use crate::history::{Calls, Recorder};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How many services are made for a run, each a key.
const KEYS: usize = 160;
/// How many services one token declares at most.
const DECLARED: usize = 32;
/// How many keys are in use at the same time.
const WINDOW: usize = 4;
/// How many calls each key gets: the checker is fast on short histories, even with some open calls.
const CALLS: usize = 40;
/// How long a client waits for an answer: longer than an election takes, and less than a stopped gateway would keep it.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// The clusters that a key is exported to.
const CLUSTERS: u32 = 5;

/// Running clients.
#[derive(Debug)]
pub struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    calls: AtomicUsize,
    admins: Vec<Admin>,
    recorder: Recorder<Export>,
}

impl Clients {
    /// Starts `clients` clients, whose choices follow from `seed`.
    pub fn start(fleet: &mut Fleet, clients: u64, seed: u64) -> Self {
        let keys: Vec<String> = (0..KEYS).map(|number| format!("{}:80", key(number))).collect();
        for keys in keys.chunks(DECLARED) {
            let wanted = json!({"role": "workload", "services": keys, "account": "history"});
            fleet.ask("services for histories", |admin| admin.post("/v1/tokens", &wanted));
        }
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            admins: fleet.admins().into_iter().map(|admin| admin.within(PATIENCE)).collect(),
            recorder: Recorder::default(),
        });
        let threads = (0..clients).map(|client| {
            let (shared, random) = (shared.clone(), StdRng::seed_from_u64(seed ^ client << 32));
            std::thread::spawn(move || shared.run(&format!("client {client}"), random))
        });
        Self { threads: threads.collect(), shared }
    }

    /// How many calls were made so far.
    pub fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::Relaxed)
    }

    /// Stops them, and returns the history of each key.
    pub fn end(self) -> BTreeMap<String, Calls<Export>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client ends well");
        }
        self.shared.recorder.histories()
    }
}

fn key(number: usize) -> String {
    format!("k{number}.history")
}

impl Shared {
    fn run(&self, client: &str, mut random: StdRng) {
        while !self.stop.load(Ordering::Relaxed) {
            let first = self.calls.fetch_add(1, Ordering::Relaxed) / (CALLS * WINDOW) * WINDOW;
            if first + WINDOW > KEYS {
                return;
            }
            let service = key(first + random.random_range(0..WINDOW));
            let admin = &self.admins[random.random_range(0..self.admins.len())];
            let cluster = random.random_range(0..CLUSTERS);
            let (id, after) = match random.random_range(0..10) {
                0..4 => self.read(client, &service, admin),
                4..7 => self.add(client, &service, admin, cluster),
                7..9 => self.withdraw(client, &service, admin, Some(cluster)),
                _ => self.withdraw(client, &service, admin, None),
            };
            match after {
                After::Known(operation) => self.recorder.complete(&service, id, operation),
                After::Nothing => self.recorder.forget(&service, id),
                After::Open => {}
            }
            std::thread::sleep(Duration::from_millis(random.random_range(0..8)));
        }
    }

    fn add(&self, client: &str, service: &str, admin: &Admin, cluster: u32) -> Called {
        let id = self.recorder.invoke(service, &by(client, admin), Export::Add(cluster));
        let answer = admin.put(&format!("/v1/exports/{service}"), &json!({"to": [format!("c{cluster}")]}));
        let after = match answer {
            Answer::Done(_) => After::Known(Export::Add(cluster)),
            Answer::Refused { .. } => After::Nothing,
            Answer::Unknown(_) => After::Open,
        };
        (id, after)
    }

    fn withdraw(&self, client: &str, service: &str, admin: &Admin, from: Option<u32>) -> Called {
        let operation =
            |outcome| from.map_or(Export::Clear(outcome), |cluster| Export::Remove(cluster, outcome));
        let id = self.recorder.invoke(service, &by(client, admin), operation(Withdrawn::Unknown));
        let query = from.map(|cluster| format!("?from=c{cluster}")).unwrap_or_default();
        let after = match admin.delete(&format!("/v1/exports/{service}{query}")) {
            Answer::Done(_) => After::Known(operation(Withdrawn::Done)),
            Answer::Refused { reason, .. } if reason == "not-exported" => {
                After::Known(operation(Withdrawn::NotExported))
            }
            Answer::Refused { .. } => After::Nothing,
            Answer::Unknown(_) => After::Open,
        };
        (id, after)
    }

    fn read(&self, client: &str, service: &str, admin: &Admin) -> Called {
        let id = self.recorder.invoke(service, &by(client, admin), Export::Read(None));
        let after = match admin.get("/v1/exports?consistent=true") {
            Answer::Done(exports) => After::Known(Export::Read(Some(exported(&exports, service)))),
            Answer::Refused { .. } | Answer::Unknown(_) => After::Nothing,
        };
        (id, after)
    }
}

type Called = (crate::history::CallId, After);

/// What is known after a call.
enum After {
    /// Its outcome.
    Known(Export),
    /// That it changed and told nothing.
    Nothing,
    /// Nothing.
    Open,
}

fn by(client: &str, admin: &Admin) -> String {
    format!("{client} at {}", admin.name())
}

/// The clusters that `service` is exported to.
fn exported(exports: &Value, service: &str) -> To {
    let export = exports.as_array().into_iter().flatten().find(|export| export["service"] == service);
    let to = export.and_then(|export| export["to"].as_array()).into_iter().flatten();
    to.filter_map(|name| name.as_str()?.strip_prefix('c')?.parse().ok()).collect()
}
