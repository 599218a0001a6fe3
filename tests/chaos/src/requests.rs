//! Requests of an application to a service, one after the other, with what failed and when.

use crate::gap::{Gap, Gaps};
use causeway_test_mesh::get;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(10);
/// For so long after a path is back requests may still fail: links and connections come up again.
const GRACE: Duration = Duration::from_secs(10);

/// Running clients.
#[derive(Debug)]
pub struct Requests {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    done: AtomicU64,
    gaps: Gaps,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    excused: u64,
    failures: Vec<String>,
    /// There is no path now.
    cut: bool,
    /// When there was none last.
    cut_until: Option<Instant>,
}

/// What became of the requests.
#[derive(Clone, Debug)]
pub struct RequestsTold {
    /// Those that were answered.
    pub done: u64,
    /// Those that failed while there was no path, or shortly after.
    pub excused: u64,
    /// Those that failed although there was a path, with their times.
    pub failures: Vec<String>,
    /// The longest time without an answer.
    pub longest: Gap,
}

impl Requests {
    /// Starts `clients` clients of the service at `addr`.
    pub fn start(addr: SocketAddr, clients: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let threads = (0..clients).map(|_| {
            let shared = shared.clone();
            std::thread::spawn(move || shared.run(addr))
        });
        Self { threads: threads.collect(), shared }
    }

    /// From now on there is, or is not, a path to the service.
    pub fn cut(&self, cut: bool) {
        let mut state = self.shared.state.lock().unwrap();
        if state.cut {
            state.cut_until = Some(Instant::now());
        }
        state.cut = cut;
    }

    /// How many were answered so far.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// The times between answers.
    pub fn gaps(&self) -> &Gaps {
        &self.shared.gaps
    }

    /// Stops the clients.
    pub fn end(&mut self) -> RequestsTold {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a client ends well");
        }
        let state = self.shared.state.lock().unwrap();
        RequestsTold {
            done: self.shared.done.load(Ordering::Relaxed),
            excused: state.excused,
            failures: state.failures.clone(),
            longest: self.shared.gaps.longest(),
        }
    }
}

impl Shared {
    /// The time of day as logs have it, to find there what happened.
    fn clock() -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = now.as_secs() % 86_400;
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        format!("{hours:02}:{minutes:02}:{:02}.{:03}", seconds % 60, now.subsec_millis())
    }

    fn run(&self, addr: SocketAddr) {
        while !self.stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            match get(addr, "/") {
                Ok(answer) if answer.status == 200 => {
                    self.done.fetch_add(1, Ordering::Relaxed);
                    self.gaps.success();
                }
                failed => self.failed(began, &format!("{failed:?}")),
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn failed(&self, began: Instant, what: &str) {
        let mut state = self.state.lock().unwrap();
        let late = state.cut_until.is_some_and(|until| began < until + GRACE);
        if state.cut || late {
            state.excused += 1;
        } else {
            let (time, took) = (Self::clock(), began.elapsed());
            state.failures.push(format!("at {time}, after {took:?}: {what}"));
        }
    }
}
