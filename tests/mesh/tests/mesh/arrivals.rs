//! Connections of a client, one after another, and who answered them.

use causeway_test_mesh::get;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// One request over a connection of its own.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    /// Who answered, or why nobody did.
    pub(crate) answer: Result<String, String>,
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
