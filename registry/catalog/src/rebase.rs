//! A catalog at another revision: what a restored backup starts with.

use crate::Catalog;
use causeway_model::{GatewayFacts, Revision};

impl Catalog {
    /// Sets the revision, unless the catalog is at a newer one, as if everything that others order by it had changed just now: whom
    /// the cluster trusts. Sidecars and linked clusters that saw a later state of the lost registry would take the restored one for
    /// older than theirs otherwise, and keep theirs; and what was confirmed to the lost one counts no longer. Nothing else changes;
    /// what was recorded with revisions keeps them. The log has to go on after `revision`.
    pub fn rebase(&mut self, revision: Revision) {
        if revision <= self.revision {
            return;
        }
        self.revision = revision;
        self.own_trust_changes(revision);
        if let Some(cluster) = &mut self.cluster {
            cluster.ca.roots_changed = revision;
        }
        for link in self.links.values_mut() {
            link.trust_changed = revision;
        }
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
    use crate::{Command, CommandBody, EstablishLink, InitCluster, MergeRule};
    use causeway_model::{ClusterFacts, ClusterId, Epoch, GatewayRole, Locality, NodeId};

    #[test]
    fn the_revision_never_goes_back() {
        let mut catalog = Catalog::new();
        catalog.rebase(Revision(9));
        catalog.rebase(Revision(3));
        assert_eq!(catalog.revision(), Revision(9));
    }

    fn facts(name: &str, id: u32) -> ClusterFacts {
        ClusterFacts {
            name: name.parse().unwrap(),
            id: ClusterId::new(id).unwrap(),
            trust_domain: format!("{name}.mesh").parse().unwrap(),
            locality: Locality { region: name.into(), zone: "AD-1".into() },
        }
    }

    fn gateway(node: u64) -> GatewayFacts {
        GatewayFacts {
            node: NodeId(node),
            role: GatewayRole::Gateway,
            locality: Locality { region: "iad".into(), zone: "AD-1".into() },
            cluster_addrs: vec!["10.0.0.1:7443".parse().unwrap()],
            link_addrs: vec!["10.0.0.1:7443".parse().unwrap()],
        }
    }

    #[test]
    fn what_others_order_by_revision_is_newer_than_all_that_they_saw() {
        let mut catalog = Catalog::new();
        let commands: [CommandBody; 2] = [
            InitCluster {
                facts: facts("iad", 1),
                root_der: vec![1],
                sealed_ca: vec![2],
                cid_key: (Epoch(1), [1; 16].into()),
                probe_key: (Epoch(1), [1; 32].into()),
                gateway: gateway(1),
            }
            .into(),
            EstablishLink {
                invite: None,
                peer: facts("phx", 2),
                gateways: vec![gateway(9)],
                roots: vec![vec![3]],
                key: [4; 32].into(),
                merge_namespaces: MergeRule::None,
            }
            .into(),
        ];
        for (revision, body) in (1..).zip(commands) {
            let command = Command { at: 1_700_000_000, by: "test".into(), body };
            let applied = catalog.apply(Revision(revision), &command);
            assert!(applied.outcome.is_ok(), "{:?}", applied.outcome);
        }
        let backup = catalog.clone();
        // the lost cluster went on to here, and changed whom it trusts on the way
        let seen = Revision(1_000);
        let start = Revision(1_000_000);
        catalog.rebase(start);
        assert_eq!((catalog.trust_revision(), backup.trust_revision()), (start, Revision(2)));
        assert!(
            catalog.cluster().unwrap().ca.roots_changed > seen,
            "what was confirmed to it does not count"
        );
        let link = catalog.links().next().unwrap();
        assert!(link.trust_changed > seen && link.confirmed < catalog.cluster().unwrap().ca.roots_changed);
        assert_eq!(
            link.established,
            backup.links().next().unwrap().established,
            "the order of the links stays"
        );
    }
}
