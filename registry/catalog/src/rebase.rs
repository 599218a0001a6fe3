//! A catalog at another revision: what a restored backup starts with.

use crate::Catalog;
use causeway_model::{GatewayFacts, Revision};

impl Catalog {
    /// Sets the revision, unless the catalog is at a newer one. Nothing else changes; what was recorded with revisions
    /// keeps them. The log has to go on after `revision`.
    pub fn rebase(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// Gives the cluster one gateway, `gateway`, in the place of all that it had: those are removed for good, at `at` in seconds
    /// since the Unix epoch, because their replicas belong to the group that was lost.
    pub fn replace_gateways(&mut self, gateway: GatewayFacts, at: u64) {
        self.draining.clear();
        let old = std::mem::take(&mut self.gateways);
        self.removed.extend(old.into_keys().filter(|node| *node != gateway.node).map(|node| (node, at)));
        self.gateways.insert(gateway.node, gateway);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_never_goes_back() {
        let mut catalog = Catalog::new();
        catalog.rebase(Revision(9));
        catalog.rebase(Revision(3));
        assert_eq!(catalog.revision(), Revision(9));
    }
}
