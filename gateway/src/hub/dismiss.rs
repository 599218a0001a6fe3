//! Workloads that are revoked while they have no control connection here: nobody else says goodbye for them, and their probes
//! would keep them alive.

use super::Hub;
use causeway_catalog::Catalog;
use causeway_model::{RevokedSubject, WorkloadId};
use causeway_presence::Row;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// The revocations that were looked at, each with its moment.
#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<RevokedSubject, u64>);

impl Known {
    /// The revocations of `catalog` that are new, or were made anew, since this was last asked. What was issued after the others is
    /// good.
    fn new_of(&mut self, catalog: &Catalog) -> BTreeSet<RevokedSubject> {
        let revocations = catalog.revoked().map(|revoked| &revoked.revocation);
        let now = revocations.map(|one| (one.subject.clone(), one.issued_before)).collect();
        let before = std::mem::replace(&mut self.0, now);
        let is_new =
            |(subject, at): &(&RevokedSubject, &u64)| before.get(*subject).is_none_or(|old| old < *at);
        self.0.iter().filter(is_new).map(|(subject, _)| subject.clone()).collect()
    }

    fn has_key(&self, key: &[u8; 32]) -> bool {
        self.0.contains_key(&RevokedSubject::Key(*key))
    }
}

impl Hub {
    /// Says goodbye for the workloads that were revoked since `known` and have no control connection here: of those that have one,
    /// the end of their sessions does.
    pub(super) fn dismiss_revoked(&self, catalog: &Catalog, known: &mut Known) {
        let new = known.new_of(catalog);
        if new.is_empty() {
            return;
        }
        // with a key that is good it comes back
        let by_keys = |row: &Row| {
            let any = row.svid_keys().any(|key| new.contains(&RevokedSubject::Key(*key)));
            any && row.svid_keys().all(|key| known.has_key(key))
        };
        let refused =
            |row: &Row| by_keys(row) || new.contains(&RevokedSubject::Identity(row.identity.clone()));
        let mut soft = self.soft();
        let rows = soft.presence.local_rows().filter(|row| !row.attached && refused(row));
        let gone: Vec<WorkloadId> = rows.map(|row| row.workload).collect();
        let now = Instant::now();
        gone.iter().for_each(|&workload| soft.goodbye(now, workload));
        drop(soft);
        gone.iter().for_each(|&workload| self.forwarder.forget(workload));
        if !gone.is_empty() {
            self.presence_work.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::fixture::Fixture;
    use causeway_catalog::{Command, CommandBody, Revoke};
    use causeway_model::Revision;

    /// The catalog after `body`, at the time `at`.
    fn after(catalog: &Catalog, at: u64, body: impl Into<CommandBody>) -> Catalog {
        let mut catalog = catalog.clone();
        let command = Command { at, by: "test".into(), body: body.into() };
        let applied = catalog.apply(Revision(catalog.revision().0 + 1), &command);
        assert!(applied.outcome.is_ok(), "{:?}", applied.outcome);
        catalog
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_workload_that_was_issued_a_certificate_after_its_identity_was_revoked_stays() {
        let fixture = Fixture::start().await;
        let hub = &fixture.hub;
        let identity: causeway_model::SpiffeId =
            format!("spiffe://{}/ns/shop/sa/a", hub.node.cluster().trust_domain).parse().unwrap();
        let revoke = |subjects: &[RevokedSubject]| Revoke {
            subjects: subjects.iter().cloned().collect(),
            ends_at: 9_000,
        };
        let (by_name, key) = (RevokedSubject::Identity(identity.clone()), |n| RevokedSubject::Key([n; 32]));
        // its control connection is with another gateway, and its probes come here
        let detached = |workload: u64, keys: [u8; 2]| {
            let workload = WorkloadId(workload);
            let row = Row {
                workload,
                identity: identity.clone(),
                services: Vec::new(),
                locality: hub.node.locality().clone(),
                weight: 1,
                overlay: Vec::new(),
                release: "1.0.0".into(),
                svid_key: [keys[0]; 32],
                older_keys: Box::new([[keys[1]; 32]]),
                seq: 0,
                attached: true,
            };
            hub.attach(row).unwrap();
            hub.soft().presence.handle_detach(Instant::now(), workload);
            workload
        };
        let mut known = Known::default();
        let mut dismiss = |catalog: &Catalog, asked: WorkloadId| {
            hub.soft().presence.handle_seen(Instant::now(), asked);
            hub.dismiss_revoked(catalog, &mut known);
            hub.is_alive(asked)
        };
        let catalog = after(&hub.catalog(), 1_000, revoke(std::slice::from_ref(&by_name)));
        assert!(!dismiss(&catalog, detached(1, [1, 2])));

        let again = detached(2, [3, 4]);
        let catalog = after(&catalog, 1_100, revoke(&[key(3)]));
        assert!(
            dismiss(&catalog, again),
            "its certificate is newer than the revocation, and it has a good key"
        );
        let catalog = after(&catalog, 1_300, revoke(&[key(4)]));
        assert!(!dismiss(&catalog, again), "it has no key that is good any more");

        let once_more = detached(3, [5, 6]);
        assert!(dismiss(&catalog, once_more));
        let catalog = after(&catalog, 1_400, revoke(&[by_name]));
        assert!(!dismiss(&catalog, once_more), "it is revoked once more");
        fixture.stop().await;
    }
}
