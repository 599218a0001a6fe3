//! How a check says what it found, whoever makes it.

use super::api::Check;
use crate::disk::Space;
use std::path::Path;
use std::time::Duration;

/// Below this much free space, or a twentieth of all, a disk nears its end.
const LITTLE: u64 = 256 << 20;
/// Below this much the registry may not take its next snapshot.
const NONE: u64 = 32 << 20;

/// All is well.
pub(crate) fn ok(name: impl Into<String>, seen: impl Into<String>) -> Check {
    Check { name: name.into(), state: "ok".into(), seen: seen.into(), cause: None, fix: None }
}

/// It works, but not as it should.
pub(crate) fn warning(
    name: impl Into<String>,
    seen: impl Into<String>,
    cause: impl Into<String>,
    fix: impl Into<String>,
) -> Check {
    Check {
        name: name.into(),
        state: "warning".into(),
        seen: seen.into(),
        cause: Some(cause.into()),
        fix: Some(fix.into()),
    }
}

/// It does not work.
pub(crate) fn failed(
    name: impl Into<String>,
    seen: impl Into<String>,
    cause: impl Into<String>,
    fix: impl Into<String>,
) -> Check {
    Check { state: "failed".into(), ..warning(name, seen, cause, fix) }
}

/// A duration in its largest unit of which there are two.
pub(crate) fn spell(duration: Duration) -> String {
    let seconds = duration.as_secs();
    for (unit, size) in [("days", 86_400), ("hours", 3_600), ("minutes", 60)] {
        if seconds >= 2 * size {
            return format!("{} {unit}", seconds / size);
        }
    }
    format!("{seconds} s")
}

/// The room that is left on the disk of `dir`.
pub(crate) fn space(dir: &Path, room: Space) -> Check {
    const NAME: &str = "disk space";
    let seen = format!("{} MiB of {} MiB free at {}", room.free >> 20, room.total >> 20, dir.display());
    let fix = "free space on that file system, or make it larger: `du -x` shows what fills it; the registry itself takes a few times the \
               size of a backup";
    if room.free < NONE {
        let cause = "the disk is full, or nearly so: a gateway whose registry cannot write stops taking part, and ends";
        return failed(NAME, seen, cause, fix);
    }
    if room.free < LITTLE || room.free < room.total / 20 {
        let cause =
            "the disk is nearly full: when it is, this gateway stops taking part in the registry, and ends";
        return warning(NAME, seen, cause, fix);
    }
    ok(NAME, seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spelled_in_a_unit_that_fits() {
        for (seconds, text) in
            [(0, "0 s"), (119, "119 s"), (120, "2 minutes"), (7_200, "2 hours"), (200_000, "2 days")]
        {
            assert_eq!(spell(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn what_is_not_fine_says_why_and_what_to_do() {
        assert_eq!(ok("a", "b").cause, None);
        let bad = failed("a", "b", "c", "d");
        assert_eq!(
            (bad.state.as_str(), bad.cause.as_deref(), bad.fix.as_deref()),
            ("failed", Some("c"), Some("d"))
        );
        assert_eq!(warning("a", "b", "c", "d").state, "warning");
    }

    #[test]
    fn a_disk_that_fills_up_is_told_of_in_time() {
        let state = |free_mib: u64, total_mib: u64| {
            space(Path::new("/data"), Space { free: free_mib << 20, total: total_mib << 20 }).state
        };
        assert_eq!(state(10_000, 100_000), "ok");
        assert_eq!(state(4_999, 100_000), "warning", "less than a twentieth");
        assert_eq!(state(255, 1_000), "warning");
        assert_eq!(state(31, 1_000), "failed");
        assert_eq!(
            space(Path::new("/data"), Space { free: 300 << 20, total: 1 << 30 }).seen,
            "300 MiB of 1024 MiB free at /data"
        );
    }
}
