//! Whether this gateway can write what it must keep.

use super::{failed, ok, spell, warning};
use crate::admin::api::Check;
use crate::admin::findings::space;
use crate::disk::{Space, Tried};
use std::path::Path;
use std::time::{Duration, Instant};

const NAME: &str = "disk";
/// A flush that takes longer slows every change of the registry down.
const SLOW: Duration = Duration::from_millis(500);

/// What the tries to write into `dir` showed.
pub(super) fn writes(dir: &Path, tried: &Tried, now: Instant) -> Check {
    let dir = dir.display();
    if let Some((cause, since)) = &tried.failed {
        let seen =
            format!("{dir} has not been writable for {}", spell(now.saturating_duration_since(*since)));
        let fix = "see to the disk (space, mount, health); the gateway is not ready until it can be written again, and a gateway whose \
                   registry cannot write ends: start it again then";
        return failed(NAME, seen, cause.as_str(), fix);
    }
    let seen = format!("{dir} can be written, a flush took {} ms", tried.took.as_millis());
    if tried.took < SLOW {
        return ok(NAME, seen);
    }
    let cause = "the disk is slow: every change of the registry waits for it, and elections may be lost";
    warning(
        NAME,
        seen,
        cause,
        "see what else uses the disk (`iostat -x 1`), and its health; give --data-dir on a faster one",
    )
}

/// The room that is left.
pub(super) fn room(dir: &Path) -> Check {
    match Space::of(dir) {
        Ok(room) => space(dir, room),
        Err(error) => failed(
            "disk space",
            format!("{} cannot be looked at", dir.display()),
            error.to_string(),
            "see whether the file system is still mounted",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_judged_by_the_last_try() {
        let (dir, now) = (Path::new("/data"), Instant::now());
        let took = |ms| Tried { took: Duration::from_millis(ms), failed: None };
        let fine = writes(dir, &took(3), now);
        assert_eq!(
            (fine.state.as_str(), fine.seen.as_str()),
            ("ok", "/data can be written, a flush took 3 ms")
        );
        assert_eq!(writes(dir, &took(900), now).state, "warning");
        let cause = "cannot write into /data: No space left on device";
        let full = Tried { failed: Some((cause.into(), now)), ..took(3) };
        let check = writes(dir, &full, now + Duration::from_secs(30));
        assert_eq!((check.state.as_str(), check.cause.as_deref()), ("failed", Some(cause)));
        assert_eq!(check.seen, "/data has not been writable for 30 s");
        assert_eq!(room(Path::new("/nonexistent/causeway")).state, "failed");
    }
}
