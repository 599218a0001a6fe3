//! Whether a connection is in doubt: something was sent on it that should have been answered, and nothing at all came.
//!
//! Pure: the counter of what was received, the time and the round-trip time are arguments. QUIC itself waits for the idle
//! timeout, because a connection without a path may get one again. One whose peer forgot it never does: the peer's close, and
//! the reset that would replace it, find no way to this side.

use std::time::{Duration, Instant};

/// The least time without any answer that makes a connection doubtful: longer than it takes to move to another gateway.
const LEAST: Duration = Duration::from_secs(1);
/// How many round-trip times it takes at least: a loss is repaired within three.
const ROUND_TRIPS: u32 = 4;
/// Whoever looks later than so after the last look was held up, and what came meanwhile may not have been read yet.
const HELD_UP: Duration = Duration::from_secs(1);

/// What was heard of a connection, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hearing {
    /// Datagrams that had been received at the last look.
    received: u64,
    /// Not earlier than when the last of them was.
    heard: Instant,
    /// Since when the peer owes an acknowledgement, if something was sent after the last of them.
    asked: Option<Instant>,
    looked: Instant,
}

impl Hearing {
    pub(super) fn new(received: u64, now: Instant) -> Self {
        Self { received, heard: now, asked: None, looked: now }
    }

    /// Takes note of how many datagrams have been received until `now`.
    pub(super) fn look(&mut self, received: u64, now: Instant) {
        if received != self.received {
            (self.received, self.heard, self.asked) = (received, now, None);
        } else if now.saturating_duration_since(self.looked) > HELD_UP {
            self.heard = now;
            self.asked = self.asked.map(|_| now);
        }
        self.looked = now;
    }

    /// Whether something was sent that is not known to be answered.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Something is sent that the peer acknowledges at once. [`look`](Self::look) first.
    pub(super) fn ask(&mut self, now: Instant) {
        self.asked.get_or_insert(now);
    }

    /// Whether more should have been heard by `now`, when a round trip takes `rtt` and something is sent after each `keep_alive`
    /// without anything received.
    pub(super) fn is_doubtful(&self, now: Instant, rtt: Duration, keep_alive: Duration) -> bool {
        let limit = LEAST.max(rtt.saturating_mul(ROUND_TRIPS));
        let silent = now.saturating_duration_since(self.heard);
        self.asked.is_some_and(|at| now.saturating_duration_since(at) >= limit)
            || silent >= keep_alive.saturating_add(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP_ALIVE: Duration = Duration::from_secs(2);
    const RTT: Duration = Duration::from_millis(80);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Looks each 250 ms, as long as `received` says, and tells when the doubt began.
    fn doubt(
        mut hearing: Hearing,
        start: Instant,
        rtt: Duration,
        received: impl Fn(u64) -> u64,
    ) -> Option<u64> {
        (1..=120).map(|step| step * 250).find(|at| {
            hearing.look(received(*at), start + ms(*at));
            hearing.is_doubtful(start + ms(*at), rtt, KEEP_ALIVE)
        })
    }

    #[test]
    fn an_unanswered_opening_is_doubted_after_a_second_or_four_round_trips() {
        let now = Instant::now();
        let mut hearing = Hearing::new(7, now);
        hearing.ask(now);
        assert_eq!(doubt(hearing, now, RTT, |_| 7), Some(1000));
        assert_eq!(doubt(hearing, now, ms(500), |_| 7), Some(2000));
        // what is sent later starts no new clock
        hearing.ask(now + ms(900));
        assert_eq!(doubt(hearing, now, RTT, |_| 7), Some(1000));
    }

    #[test]
    fn a_connection_that_owes_nothing_is_doubted_when_keep_alives_stay_unanswered() {
        let now = Instant::now();
        let mut hearing = Hearing::new(7, now);
        assert_eq!(doubt(hearing, now, RTT, |_| 7), Some(3000));
        // as one whose opening was acknowledged, and whose server takes its time
        hearing.ask(now);
        assert_eq!(doubt(hearing, now, RTT, |at| 7 + u64::from(at >= 250)), Some(3250));
        assert_eq!(doubt(hearing, now, RTT, |at| at / 2000), None);
    }

    #[test]
    fn anything_that_is_received_ends_the_doubt() {
        let now = Instant::now();
        let mut hearing = Hearing::new(7, now);
        hearing.ask(now);
        hearing.look(7, now + ms(1000));
        assert!(hearing.is_doubtful(now + ms(1000), RTT, KEEP_ALIVE));
        hearing.look(8, now + ms(1100));
        assert!(!hearing.is_doubtful(now + ms(1100), RTT, KEEP_ALIVE) && !hearing.is_asked());
    }

    #[test]
    fn time_in_which_nobody_looked_says_nothing() {
        let now = Instant::now();
        let mut hearing = Hearing::new(7, now);
        hearing.ask(now);
        // this process was stopped, and what came is still in the socket
        hearing.look(7, now + ms(9000));
        assert!(!hearing.is_doubtful(now + ms(9000), RTT, KEEP_ALIVE));
        hearing.look(7, now + ms(9999));
        assert!(!hearing.is_doubtful(now + ms(9999), RTT, KEEP_ALIVE));
        hearing.look(7, now + ms(10_000));
        assert!(hearing.is_doubtful(now + ms(10_000), RTT, KEEP_ALIVE));
    }

    #[test]
    fn losses_and_a_move_to_another_gateway_leave_no_doubt() {
        let now = Instant::now();
        let mut hearing = Hearing::new(7, now);
        hearing.ask(now);
        // its first answers are lost: the probes at 0.2 and 0.5 s are answered
        assert_eq!(doubt(hearing, now, RTT, |at| if at < 750 { 7 } else { at }), None);
    }
}
