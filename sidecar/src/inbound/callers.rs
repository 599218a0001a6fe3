//! How many connections each identity has, so that one caller cannot take the places of all.

use causeway_model::SpiffeId;
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most connections that one identity may have to this sidecar. Instances of one workload share their identity and each has
/// one connection, or two while it renews its certificate.
pub(super) const MAX_PER_IDENTITY: u32 = 256;

/// Counts connections by identity.
#[derive(Clone, Debug, Default)]
pub(crate) struct Callers {
    open: Arc<Mutex<FxHashMap<SpiffeId, u32>>>,
}

/// One connection's place.
#[derive(Debug)]
pub(super) struct Share {
    callers: Callers,
    identity: SpiffeId,
}

impl Callers {
    /// A place for a connection of `identity`; `None` if it has all that it may have.
    pub(super) fn share(&self, identity: &SpiffeId) -> Option<Share> {
        let mut open = self.lock();
        let count = open.entry(identity.clone()).or_default();
        if *count >= MAX_PER_IDENTITY {
            return None;
        }
        *count += 1;
        Some(Share { callers: self.clone(), identity: identity.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<SpiffeId, u32>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut open = self.callers.lock();
        if let Some(count) = open.get_mut(&self.identity) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.identity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_identity_takes_no_more_than_its_share() {
        let callers = Callers::default();
        let id =
            |account: &str| format!("spiffe://iad.mesh/ns/shop/sa/{account}").parse::<SpiffeId>().unwrap();
        let mut shares: Vec<Share> =
            (0..MAX_PER_IDENTITY).map(|_| callers.share(&id("web")).unwrap()).collect();
        assert!(callers.share(&id("web")).is_none());
        let other = callers.share(&id("pay")).unwrap();
        shares.pop();
        assert!(callers.share(&id("web")).is_some());
        drop((shares, other));
        assert!(callers.lock().is_empty());
    }
}
