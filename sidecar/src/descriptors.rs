//! The descriptors that connections may take: all that the process may have open, less a reserve.
//!
//! Owns that connections leave some for everything else (the state folder, gateways, telemetry, checks, name service), so that a
//! flood of them is refused with a reason instead of failing wherever the last one happened to go.

use causeway_runtime::limits;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What both directions share.
#[derive(Clone, Debug)]
pub(crate) struct Descriptors {
    free: Arc<Semaphore>,
    limit: u64,
}

/// No descriptor is left for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "connections have taken all but the reserve of the {limit} descriptors that this process may open: raise its limit (LimitNOFILE, ulimit -n)"
)]
pub(crate) struct Exhausted {
    limit: u64,
}

impl Exhausted {
    /// The stable word for logs and metrics.
    pub(crate) const REASON: &str = "no-descriptors";
}

impl Descriptors {
    /// Those of this process, but for `reserved`; what is needed for a single connection is never reserved.
    pub(crate) fn of_process(reserved: u32) -> Self {
        Self::new(limits::nofile(), reserved)
    }

    pub(crate) fn new(limit: u64, reserved: u32) -> Self {
        let free = limit.saturating_sub(reserved.into()).max(1);
        let free = usize::try_from(free).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(free)), limit }
    }

    /// One descriptor, for as long as the permit lives.
    ///
    /// # Errors
    /// None is left.
    pub(crate) fn take(&self) -> Result<OwnedSemaphorePermit, Exhausted> {
        Arc::clone(&self.free).try_acquire_owned().map_err(|_| Exhausted { limit: self.limit })
    }

    /// All that are left.
    #[cfg(test)]
    pub(crate) fn take_all(&self) -> OwnedSemaphorePermit {
        let all = u32::try_from(self.left()).unwrap();
        Arc::clone(&self.free).try_acquire_many_owned(all).unwrap()
    }

    /// How many are left.
    #[cfg(test)]
    pub(crate) fn left(&self) -> usize {
        self.free.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_left_alone_and_what_ends_is_free_again() {
        let descriptors = Descriptors::new(10, 8);
        let (first, _second) = (descriptors.take().unwrap(), descriptors.take().unwrap());
        let error = descriptors.take().unwrap_err().to_string();
        assert!(error.contains("the 10 descriptors") && error.contains("LimitNOFILE"), "{error}");
        drop(first);
        assert_eq!(descriptors.left(), 1);
        assert!(descriptors.take().is_ok());
        assert_eq!(Descriptors::new(u64::MAX, 1).left(), Semaphore::MAX_PERMITS);
        assert_eq!(Descriptors::new(3, 100).left(), 1);
    }
}
