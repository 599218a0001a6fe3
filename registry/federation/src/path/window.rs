//! Loss over the last seconds, from counts.

use super::HEARTBEAT_INTERVAL;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time over which loss is measured.
const SPAN: Duration = Duration::from_secs(20);
/// More than a peer sends in that time.
const MAX_SAMPLES: usize = 64;

/// How many were numbered and how many of them arrived, as known at some times.
#[derive(Clone, Debug, Default)]
pub(super) struct Window(VecDeque<(Instant, u64, u64)>);

impl Window {
    /// At `now` the highest number is `numbered`, and so many arrived. Smaller ones than before begin anew.
    pub(super) fn push(&mut self, now: Instant, numbered: u64, arrived: u64) {
        if self.0.back().is_some_and(|&(_, n, a)| numbered < n || arrived < a) {
            self.0.clear();
        }
        let old = |at: &Instant| now.saturating_duration_since(*at) > SPAN;
        while self.0.len() >= MAX_SAMPLES || self.0.front().is_some_and(|(at, ..)| old(at)) {
            self.0.pop_front();
        }
        self.0.push_back((now, numbered, arrived));
    }

    /// The loss in percent when nothing arrived for `silent`; `None` before there is anything to tell it from.
    pub(super) fn loss(&self, now: Instant, silent: Duration) -> Option<u8> {
        let lately = |at: &Instant| now.saturating_duration_since(*at) <= SPAN;
        let (_, to, arrived_to) = self.0.back()?;
        let (_, from, arrived_from) = self.0.iter().find(|(at, ..)| lately(at)).or(self.0.back())?;
        let (sent, arrived) = (to - from, arrived_to - arrived_from);
        // one may be under way
        let missing = silent.min(SPAN).as_millis() / HEARTBEAT_INTERVAL.as_millis();
        let missing = u64::try_from(missing).unwrap_or(0).saturating_sub(1);
        let sent = sent.saturating_add(missing);
        let lost = u128::from(sent.saturating_sub(arrived)) * 100;
        u8::try_from(lost.checked_div(u128::from(sent))?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_what_is_missing_of_the_last_twenty_seconds() {
        let start = Instant::now();
        let mut window = Window::default();
        assert_eq!(window.loss(start, Duration::ZERO), None);
        for n in 0..100 {
            // every second one is lost for the first half
            let arrived = if n < 50 { n / 2 } else { 25 + (n - 50) };
            window.push(start + HEARTBEAT_INTERVAL * u32::try_from(n).unwrap(), n, arrived);
        }
        let end = start + HEARTBEAT_INTERVAL * 99;
        assert_eq!(window.loss(end, Duration::ZERO), Some(0));
        assert_eq!(window.loss(end, Duration::from_millis(900)), Some(0), "one is under way");
        assert_eq!(window.loss(end, Duration::from_secs(60)), Some(49), "as many came before");
        assert_eq!(window.loss(end + Duration::from_secs(60), Duration::from_secs(60)), Some(100));
        window.push(end, 3, 1);
        window.push(end, 7, 3);
        assert_eq!(window.loss(end, Duration::ZERO), Some(50), "the speaker began anew");
        window.push(end, u64::MAX, 4);
        assert_eq!(window.loss(end, Duration::ZERO), Some(99));
    }
}
