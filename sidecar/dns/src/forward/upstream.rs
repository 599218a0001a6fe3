//! One upstream: whether it answers, and whether it sends questions back to us.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long an upstream that failed once is asked after the others; twice as long after each further failure.
const DOWN: Duration = Duration::from_secs(1);
/// The most doublings of that: 32 s.
const DOUBLINGS: u32 = 5;

/// An upstream.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    down_until: Option<Instant>,
    looping: bool,
}

impl Upstream {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn answered(&self) {
        let mut state = self.state();
        (state.failures, state.down_until) = (0, None);
    }

    pub(super) fn failed(&self, now: Instant) {
        let mut state = self.state();
        state.down_until = Some(now + DOWN * (1 << state.failures.min(DOUBLINGS)));
        state.failures = state.failures.saturating_add(1);
    }

    /// Notes whether it sends questions back; true if that is news.
    pub(super) fn set_looping(&self, looping: bool) -> bool {
        std::mem::replace(&mut self.state().looping, looping) != looping
    }

    pub(super) fn is_looping(&self) -> bool {
        self.state().looping
    }

    fn down_until(&self, now: Instant) -> Option<Instant> {
        self.state().down_until.filter(|&until| now < until)
    }
}

/// Those that may be asked: first those that answer, as they are configured, then those that do not, the one that will be
/// given a chance soonest first.
pub(super) fn in_order(upstreams: &[Upstream], now: Instant) -> Vec<&Upstream> {
    let mut list: Vec<_> = upstreams
        .iter()
        .filter(|upstream| !upstream.is_looping())
        .map(|upstream| (upstream.down_until(now), upstream))
        .collect();
    list.sort_by_key(|&(down, _)| down);
    list.into_iter().map(|(_, upstream)| upstream).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(upstreams: &[Upstream], now: Instant) -> Vec<u16> {
        in_order(upstreams, now).iter().map(|upstream| upstream.address.port()).collect()
    }

    #[test]
    fn those_that_fail_are_asked_last_for_a_while_and_those_that_loop_not_at_all() {
        let upstreams: Vec<_> =
            (1..=3).map(|port| Upstream::new(SocketAddr::from(([127, 0, 0, 1], port)))).collect();
        let now = Instant::now();
        assert_eq!(order(&upstreams, now), [1, 2, 3]);
        upstreams[0].failed(now);
        upstreams[0].failed(now);
        upstreams[1].failed(now);
        assert_eq!(order(&upstreams, now), [3, 2, 1]);
        assert_eq!(order(&upstreams, now + DOWN), [2, 3, 1]);
        upstreams[0].answered();
        assert_eq!(order(&upstreams, now), [1, 3, 2]);
        assert!(upstreams[0].set_looping(true) && !upstreams[0].set_looping(true));
        assert_eq!(order(&upstreams, now), [3, 2]);
    }

    #[test]
    fn the_time_out_of_favour_is_bounded() {
        let upstream = Upstream::new(SocketAddr::from(([127, 0, 0, 1], 53)));
        let now = Instant::now();
        (0..100).for_each(|_| upstream.failed(now));
        assert_eq!(upstream.down_until(now), Some(now + DOWN * 32));
    }
}
