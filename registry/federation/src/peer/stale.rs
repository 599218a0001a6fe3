//! Whether the imports of a silent peer are part of the answers.

use super::PeerImports;
use crate::import::{ImportChange, StalePolicy};
use std::time::Instant;

impl PeerImports {
    pub(super) fn should_withhold(&self, now: Instant) -> bool {
        match self.rules.stale {
            _ if !self.stale => false,
            StalePolicy::ServeLast => false,
            StalePolicy::Fence => true,
            // while a peer that speaks again is not yet trusted to go on, nothing changes
            StalePolicy::EjectAfter(_) if !self.silence.is_silent(now) => self.withheld,
            StalePolicy::EjectAfter(_) => self.withheld || self.eject_at().is_some_and(|at| at <= now),
        }
    }

    /// When the imports leave the answers if the peer stays silent; nothing when they have, or the policy lets them stay.
    pub(super) fn eject_at(&self) -> Option<Instant> {
        let StalePolicy::EjectAfter(patience) = self.rules.stale else { return None };
        let heard = self.silence.last_heard().filter(|_| self.stale && !self.withheld)?;
        heard.checked_add(patience)
    }

    /// Forgets that the imports were withheld by an earlier policy.
    pub(super) fn judge_afresh(&mut self, now: Instant, change: &mut ImportChange) {
        if self.withheld {
            self.withheld = false;
            if self.should_withhold(now) {
                self.withheld = true;
            } else {
                self.touch_all(change);
            }
        }
    }

    pub(super) fn set_withheld(&mut self, withheld: bool, change: &mut ImportChange) {
        self.withheld = withheld;
        self.touch_all(change);
    }

    fn touch_all(&self, change: &mut ImportChange) {
        for import in self.remembered(None) {
            change.touch(import.name(), import.handle());
        }
    }
}
