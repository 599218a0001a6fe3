//! Whether the other end of a connection that is written to still listens.
//!
//! QUIC's own idle timeout is not enough: it is never shorter than three retransmission timeouts, which follow the slowest answer. A
//! process that was stopped for ten seconds measures answers that took ten, and would use a connection that the other side has long
//! given up for a minute more.

use crate::siblings::STATUS_EVERY;
use causeway_transport::Connection;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

/// After how many statuses in a row that nothing acknowledged a connection is dead: 4 s.
const PATIENCE: u32 = 8;
/// The same for one whose other end has dialled anew: 1 s.
const DOUBT: u32 = 2;

/// Returns when nobody acknowledges what is sent over `connection`, which is a status every [`STATUS_EVERY`]. Looks are counted and not
/// time: one who was stopped finds that much time has passed and that the answers are still waiting to be read.
pub(super) async fn silence(connection: &Connection, doubt: &Notify) {
    let mut looks = interval(STATUS_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = Count::default();
    loop {
        let doubted = tokio::select! {
            _ = looks.tick() => false,
            () = doubt.notified() => true,
        };
        let acknowledged = connection.stats().frame_rx.acks;
        match doubted {
            true => count.doubt(acknowledged),
            false if count.look(acknowledged) => return,
            false => {}
        }
    }
}

/// How often nothing was acknowledged.
#[derive(Debug, Default)]
struct Count {
    acknowledged: u64,
    missed: u32,
}

impl Count {
    /// So many acknowledgements have come in all. Returns whether none has for too long.
    fn look(&mut self, acknowledged: u64) -> bool {
        self.missed = if acknowledged == self.acknowledged { self.missed + 1 } else { 0 };
        self.acknowledged = acknowledged;
        self.missed >= PATIENCE
    }

    /// There is reason to think that it is dead: only what is acknowledged from now on speaks for it. What was until now may have waited
    /// to be read for long.
    fn doubt(&mut self, acknowledged: u64) {
        self.acknowledged = acknowledged;
        self.missed = self.missed.max(PATIENCE - DOUBT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many looks it takes until a connection is dead that nobody acknowledges anything on.
    fn looks(count: &mut Count) -> u32 {
        let acknowledged = count.acknowledged;
        (1..).find(|_| count.look(acknowledged)).unwrap()
    }

    #[test]
    fn silence_takes_several_looks_and_fewer_when_there_is_doubt() {
        let mut count = Count::default();
        assert!(!count.look(3));
        assert_eq!(looks(&mut count), PATIENCE);
        assert!(!count.look(4), "it speaks again");
        count.doubt(6);
        assert_eq!(looks(&mut count), DOUBT, "what was acknowledged before does not count");
        assert!(!count.look(7));
        count.doubt(7);
        assert!(!count.look(8), "the doubt was wrong");
        assert_eq!(looks(&mut count), PATIENCE);
    }
}
