//! Connections that begin at a steady pace, whatever becomes of those before: as those of many clients do.

use causeway_test_mesh::get;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One request over a connection of its own.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    /// Who answered, or why nobody did.
    pub(crate) answer: Result<String, String>,
}

/// Requests that go on until they are told to stop.
pub(crate) struct Arrivals {
    stop: Arc<AtomicBool>,
    calls: Arc<Mutex<Vec<Call>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Arrivals {
    /// At each of `addrs` one begins after each `every`.
    pub(crate) fn start(addrs: &[SocketAddr], every: Duration) -> Self {
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let threads = addrs.iter().zip(1..).map(|(&addr, number)| {
            let (stop, calls) = (stop.clone(), calls.clone());
            // they do not all begin at the same moment
            let mut next = Instant::now() + every * number / u32::try_from(addrs.len()).unwrap();
            std::thread::spawn(move || {
                let mut open = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                    // what could not begin in time is not made up for
                    next = (next + every).max(Instant::now());
                    let calls = calls.clone();
                    open.push(std::thread::spawn(move || {
                        let call = call(addr);
                        calls.lock().unwrap().push(call);
                    }));
                    open.retain(|thread| !thread.is_finished());
                }
                open.into_iter().for_each(|thread| thread.join().unwrap());
            })
        });
        let threads = threads.collect();
        Self { stop, calls, threads }
    }

    /// Those that ended until now.
    pub(crate) fn so_far(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// Ends it, and waits for those that are open.
    pub(crate) fn end(self) -> Vec<Call> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        let mut calls = std::mem::take(&mut *self.calls.lock().unwrap());
        calls.sort_by_key(|call| call.began);
        calls
    }
}

fn call(addr: SocketAddr) -> Call {
    let began = Instant::now();
    let answer = match get(addr, "/") {
        Ok(answer) if answer.status == 200 => Ok(answer.text()),
        Ok(answer) => Err(format!("status {}", answer.status)),
        Err(error) => Err(error.to_string()),
    };
    Call { began, took: began.elapsed(), answer }
}

/// Makes `count` calls one after another.
pub(crate) fn in_turn(addr: SocketAddr, count: usize) -> Vec<Call> {
    (0..count).map(|_| call(addr)).collect()
}

/// The calls that began from `from` on, and before `until`.
pub(crate) fn between(calls: &[Call], from: Instant, until: Instant) -> Vec<&Call> {
    calls.iter().filter(|call| call.began >= from && call.began < until).collect()
}

/// How many calls each of those who answered got.
pub(crate) fn counts<'a>(calls: impl IntoIterator<Item = &'a Call>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for call in calls {
        if let Ok(name) = &call.answer {
            *counts.entry(name.clone()).or_insert(0) += 1;
        }
    }
    counts
}

/// What failed, with its place in time after `from`.
pub(crate) fn failures<'a>(calls: impl IntoIterator<Item = &'a Call>, from: Instant) -> Vec<String> {
    let failed = calls.into_iter().filter_map(|call| {
        let why = call.answer.as_ref().err()?;
        Some(format!("at {:?}, after {:?}: {why}", call.began.saturating_duration_since(from), call.took))
    });
    failed.collect()
}
