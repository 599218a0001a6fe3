//! Payloads of a flow that wait for its stream: all until the peer has accepted the flow, and later those that fit no datagram.
//!
//! Until the flow is accepted they are kept when they were sent, so that they can be said again to another endpoint. An endpoint that
//! failed may have had them: UDP may deliver twice, and its applications know.

use bytes::{Bytes, BytesMut};
use causeway_wire::datagram::put_capsule;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// How many payloads of a flow may wait: 200 ms of 5,000 a second, which is a connection with an answer over any distance.
const MAX_PAYLOADS: usize = 1024;
/// How many bytes of them.
const MAX_BYTES: usize = 1 << 20;
/// How many bytes of all flows of one direction may wait.
const MAX_BYTES_OF_ALL: usize = 64 << 20;
/// What a payload takes beyond its bytes, about.
const OVERHEAD: usize = 64;
/// After so many bytes no more capsules are joined.
const JOINED: usize = 64 << 10;

/// What the payloads that wait, of all flows of one direction, may take. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budget(Arc<AtomicUsize>);

impl Budget {
    fn take(&self, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|used| *used <= MAX_BYTES_OF_ALL);
        self.0.try_update(Relaxed, Relaxed, more).is_ok()
    }

    fn give(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.0.load(Relaxed)
    }
}

#[derive(Debug)]
struct Waiting {
    payloads: VecDeque<Bytes>,
    /// What all of them take.
    bytes: usize,
    /// How many of them were handed out, and are kept.
    said: usize,
    /// Whether what is handed out is kept.
    keeps: bool,
}

/// The payloads of one flow that wait for its stream.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    wake: Notify,
    budget: Budget,
}

impl Outbox {
    /// An empty one. If it `keeps`, what it hands out can be had [again](Self::again), until it is [accepted](Self::accept).
    pub(super) fn new(budget: &Budget, keeps: bool) -> Self {
        let waiting = Waiting { payloads: VecDeque::new(), bytes: 0, said: 0, keeps };
        Self { waiting: Mutex::new(waiting), wake: Notify::new(), budget: budget.clone() }
    }

    /// Adds a payload; `false` if there is no room for it.
    pub(super) fn push(&self, payload: &[u8]) -> bool {
        let size = payload.len() + OVERHEAD;
        let mut waiting = self.lock();
        let room = waiting.payloads.len() < MAX_PAYLOADS && waiting.bytes + size <= MAX_BYTES;
        if !room || !self.budget.take(size) {
            return false;
        }
        waiting.bytes += size;
        waiting.payloads.push_back(Bytes::copy_from_slice(payload));
        drop(waiting);
        self.wake.notify_one();
        true
    }

    /// What waits, as capsules, as far as it makes one good write; empty if nothing waits.
    pub(super) fn capsules(&self) -> Bytes {
        let mut out = BytesMut::new();
        let mut waiting = self.lock();
        while out.len() < JOINED
            && let Some(payload) = waiting.next(&self.budget)
        {
            // what was pushed came from a socket, so no capsule is too long
            let _ = put_capsule(&mut out, &payload);
        }
        out.freeze()
    }

    /// Waits until something may wait that was not handed out. One waiter at a time.
    pub(super) async fn wait(&self) {
        self.wake.notified().await;
    }

    /// Hands out again what it kept.
    pub(super) fn again(&self) {
        self.lock().said = 0;
    }

    /// Keeps nothing any more of what is handed out, and forgets what it kept. Runs `then` before anybody else gets at it.
    pub(super) fn accept(&self, then: impl FnOnce()) {
        let mut waiting = self.lock();
        waiting.keeps = false;
        while waiting.said > 0 {
            waiting.said -= 1;
            waiting.pop(&self.budget);
        }
        then();
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        let mut waiting = self.lock();
        self.budget.give(waiting.bytes);
        *waiting = Waiting { payloads: VecDeque::new(), bytes: 0, said: 0, keeps: waiting.keeps };
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn next(&mut self, budget: &Budget) -> Option<Bytes> {
        if !self.keeps {
            return self.pop(budget);
        }
        let payload = self.payloads.get(self.said)?.clone();
        self.said += 1;
        Some(payload)
    }

    fn pop(&mut self, budget: &Budget) -> Option<Bytes> {
        let payload = self.payloads.pop_front()?;
        let size = payload.len() + OVERHEAD;
        self.bytes -= size;
        budget.give(size);
        Some(payload)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_wire::datagram::CapsuleDecoder;

    fn said(outbox: &Outbox) -> Vec<Bytes> {
        let mut decoder = CapsuleDecoder::new();
        decoder.push(&outbox.capsules());
        std::iter::from_fn(|| decoder.next_payload().unwrap()).collect()
    }

    #[test]
    fn what_was_said_is_said_again_until_it_is_accepted() {
        let budget = Budget::default();
        let outbox = Outbox::new(&budget, true);
        assert!(outbox.push(b"one") && outbox.push(b"two"));
        assert_eq!(said(&outbox), ["one", "two"]);
        assert!(outbox.push(b"three"));
        assert_eq!(said(&outbox), ["three"]);
        outbox.again();
        assert_eq!(said(&outbox), ["one", "two", "three"]);
        assert!(outbox.push(b"four"));
        let mut ran = false;
        outbox.accept(|| ran = true);
        assert!(ran);
        assert_eq!(budget.used(), 4 + OVERHEAD);
        assert_eq!(said(&outbox), ["four"]);
        outbox.again();
        assert!(said(&outbox).is_empty());
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_waits_is_bounded_for_one_flow_and_for_all() {
        let budget = Budget::default();
        let small = Outbox::new(&budget, false);
        let fit = (0..).take_while(|_| small.push(b"")).count();
        assert_eq!(fit, MAX_PAYLOADS);
        drop(small);
        assert_eq!(budget.used(), 0);
        let payload = vec![0; 65_507];
        let mut flows: Vec<Outbox> = (0..70).map(|_| Outbox::new(&budget, true)).collect();
        for flow in &flows {
            while flow.push(&payload) {}
            assert!(flow.lock().bytes <= MAX_BYTES);
        }
        assert!(budget.used() <= MAX_BYTES_OF_ALL);
        assert!(!flows[69].push(&payload), "all may take no more");
        flows.truncate(60);
        flows[0].clear();
        assert!(flows[0].push(&payload));
    }
}
