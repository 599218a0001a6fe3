//! What the local sidecars want a peer to tell: which instances are gone, and the endpoints of which services.

use crate::interest::{Interest, InterestOutcome};
use causeway_model::{ClusterId, ServiceHandle, WorkloadId};
use causeway_wire::link::{UseServices, WatchPeerInstances};
use std::collections::BTreeSet;

/// The most instances that one sidecar watches: it is connected to all of them.
const INSTANCES_PER_SIDECAR: usize = 4096;
/// The most watches of all sidecars of a gateway.
const WATCHES: usize = 1 << 20;
/// The most instances that one frame names.
const INSTANCES_PER_PEER: usize = 65_536;
/// The most services that one sidecar uses in other clusters.
const SERVICES_PER_SIDECAR: usize = 4096;
/// The most uses of all sidecars of a gateway.
const USES: usize = 1 << 18;
/// The most services that one frame names.
const SERVICES_PER_PEER: usize = 4096;

/// The instances of linked clusters that local sidecars are connected to.
#[derive(Debug)]
pub struct InstanceWatch(Interest<WorkloadId>);

impl Default for InstanceWatch {
    fn default() -> Self {
        Self(Interest::new(INSTANCES_PER_SIDECAR, WATCHES))
    }
}

impl InstanceWatch {
    /// `watcher` is connected to these instances and no others.
    pub fn set(
        &mut self,
        watcher: WorkloadId,
        instances: impl IntoIterator<Item = (ClusterId, WorkloadId)>,
    ) -> InterestOutcome {
        self.0.set(watcher, instances)
    }

    /// `watcher` left.
    pub fn remove(&mut self, watcher: WorkloadId) {
        self.0.set(watcher, []);
    }

    /// What to tell `cluster`: the first 65536 of its instances that are watched.
    pub fn wanted(&self, cluster: ClusterId) -> WatchPeerInstances {
        WatchPeerInstances { instances: self.0.wanted(cluster).take(INSTANCES_PER_PEER).collect() }
    }

    /// The clusters that are to be told anew: what is watched of them changed since the last call.
    pub fn take_changed(&mut self) -> BTreeSet<ClusterId> {
        self.0.take_changed()
    }

    /// `cluster` says that `instance` of it is gone: returns who is to hear of it. It is not watched any longer, because an
    /// instance that is gone never comes back. Only `cluster` itself may say so.
    pub fn gone(&mut self, cluster: ClusterId, instance: WorkloadId) -> Vec<WorkloadId> {
        self.0.forget(cluster, instance)
    }
}

/// The services of linked clusters that local sidecars use.
#[derive(Debug)]
pub struct UseSet(Interest<ServiceHandle>);

impl Default for UseSet {
    fn default() -> Self {
        Self(Interest::new(SERVICES_PER_SIDECAR, USES))
    }
}

impl UseSet {
    /// `subscriber` uses these services and no others.
    pub fn set(
        &mut self,
        subscriber: WorkloadId,
        services: impl IntoIterator<Item = (ClusterId, ServiceHandle)>,
    ) -> InterestOutcome {
        self.0.set(subscriber, services)
    }

    /// `subscriber` left.
    pub fn remove(&mut self, subscriber: WorkloadId) {
        self.0.set(subscriber, []);
    }

    /// What to tell `cluster`: the first 4096 of its services that are in use.
    pub fn wanted(&self, cluster: ClusterId) -> UseServices {
        UseServices { handles: self.0.wanted(cluster).take(SERVICES_PER_PEER).collect() }
    }

    /// Whether a sidecar uses this service.
    pub fn is_used(&self, cluster: ClusterId, handle: ServiceHandle) -> bool {
        self.0.is_wanted(cluster, handle)
    }

    /// The clusters that are to be told anew: what is used of them changed since the last call.
    pub fn take_changed(&mut self) -> BTreeSet<ClusterId> {
        self.0.take_changed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: u32) -> ClusterId {
        ClusterId::new(id).unwrap()
    }

    #[test]
    fn watchers_share_an_instance_and_all_hear_that_it_is_gone() {
        let mut watch = InstanceWatch::default();
        let (a, b, instance) = (WorkloadId(1), WorkloadId(2), WorkloadId(70));
        watch.set(a, [(id(2), instance), (id(3), instance)]);
        assert_eq!(watch.take_changed(), [id(2), id(3)].into());
        watch.set(b, [(id(2), instance)]);
        assert!(watch.take_changed().is_empty(), "nothing new for the peer");
        assert!(watch.gone(id(4), instance).is_empty(), "another cluster has no say");
        assert_eq!(watch.gone(id(2), instance), [a, b]);
        assert!(watch.gone(id(2), instance).is_empty());
        assert_eq!(watch.wanted(id(3)).instances, [instance]);
        watch.remove(a);
        assert!(watch.wanted(id(3)).instances.is_empty());
        assert_eq!(watch.take_changed(), [id(2), id(3)].into());
    }

    #[test]
    fn a_frame_and_a_sidecars_list_are_bounded() {
        let mut watch = InstanceWatch::default();
        for watcher in 0..20 {
            let list = (0..5000).map(|i| (id(2), WorkloadId(watcher * 10_000 + i)));
            assert_eq!(watch.set(WorkloadId(watcher), list).left_out, 5000 - INSTANCES_PER_SIDECAR);
        }
        assert_eq!(watch.wanted(id(2)).instances.len(), INSTANCES_PER_PEER);
        let mut uses = UseSet::default();
        for subscriber in 0..2 {
            uses.set(
                WorkloadId(subscriber),
                (0..4000).map(|i| (id(2), ServiceHandle(subscriber * 4000 + i))),
            );
        }
        assert_eq!(uses.wanted(id(2)).handles.len(), SERVICES_PER_PEER);
        assert!(uses.is_used(id(2), ServiceHandle(7999)));
        uses.remove(WorkloadId(1));
        assert!(!uses.is_used(id(2), ServiceHandle(7999)));
    }
}
