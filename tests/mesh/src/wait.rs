//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// How long a condition rests between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until `holds`, and says how long it took; panics with `what` when it does not within `limit`.
#[track_caller]
pub fn wait_until(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    wait_for(limit, what, || holds().then_some(())).1
}

/// Waits until `look` finds something, and says how long it took; panics with `what` when it does not within `limit`.
#[track_caller]
pub fn wait_for<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> (T, Duration) {
    let began = Instant::now();
    loop {
        // the clock is read first: a look that takes long gets one more chance
        let spent = began.elapsed();
        if let Some(found) = look() {
            return (found, began.elapsed());
        }
        assert!(spent < limit, "not within {limit:?}: {what}");
        std::thread::sleep(PAUSE);
    }
}
