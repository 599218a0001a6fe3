//! What keeps this gateway from being ready.

use super::Hub;
use crate::disk::Tried;

impl Hub {
    /// All that keeps this gateway from being ready, as `what: why`; nothing when it is.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        let waits = Waits { tables: !self.forwarder.is_ready(), stopping: self.drain.is_draining() };
        waits.and(&self.disk.tried(), self.registry.status().failure.as_deref())
    }
}

/// What a gateway waits for, or has begun.
struct Waits {
    /// It has no tables yet, or had no answer to its probes.
    tables: bool,
    stopping: bool,
}

impl Waits {
    fn and(&self, disk: &Tried, registry: Option<&str>) -> Vec<String> {
        let tables = self
            .tables
            .then(|| "start: it waits for its tables and the first answers to its probes".to_owned());
        let stopping = self.stopping.then(|| "stopping: it was told to".to_owned());
        let disk = disk.failed.as_ref().map(|(cause, _)| format!("disk: {cause}"));
        let registry = registry.map(|cause| format!("registry: {cause}"));
        [tables, stopping, disk, registry].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_gateway_that_cannot_write_is_not_ready_and_says_why() {
        let (fine, works) = (Waits { tables: false, stopping: false }, Tried::default());
        assert!(fine.and(&works, None).is_empty());
        let cause = "cannot write into /data: No space left on device";
        let full = Tried { failed: Some((cause.into(), Instant::now())), ..Tried::default() };
        assert_eq!(fine.and(&full, None), [format!("disk: {cause}")]);
        let starting = Waits { tables: true, stopping: true };
        let all = starting.and(&full, Some("it is damaged"));
        let what: Vec<_> = all.iter().filter_map(|why| why.split_once(": ")).map(|(what, _)| what).collect();
        assert_eq!(what, ["start", "stopping", "disk", "registry"]);
    }
}
