//! How the cluster's other gateways are doing, as each says twice a second. Pure.
//!
//! It is soft state: who was never heard is not known here, whatever the registry says of it.

use causeway_model::{HostPort, NodeId, Revision};
use causeway_wire::peer::GatewayStatus;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How often a gateway says how it is doing.
pub(crate) const STATUS_EVERY: Duration = Duration::from_millis(500);
/// A gateway that said nothing for so long is not alive.
const SILENT_AFTER: Duration = Duration::from_secs(2);
/// The most roots that a gateway names.
const MAX_ROOTS: usize = 16;
/// The longest name of a release, in bytes.
const MAX_RELEASE: usize = 64;
/// A changed root has to be out of use for so long before it counts as such: a sidecar between two gateways is in nobody's
/// report, and the rows of a dead gateway stay as long.
const SETTLED: Duration = Duration::from_secs(6);

#[derive(Clone, Debug)]
struct Heard {
    status: GatewayStatus,
    at: Instant,
    /// Packets in a second, once there are two reports.
    rate: Option<u64>,
}

/// What the other gateways said last.
#[derive(Debug)]
pub(crate) struct Siblings {
    started: Instant,
    heard: BTreeMap<NodeId, Heard>,
}

impl Siblings {
    pub(crate) fn new(now: Instant) -> Self {
        Self { started: now, heard: BTreeMap::new() }
    }

    /// `node` says how it is doing.
    pub(crate) fn handle_status(&mut self, now: Instant, node: NodeId, mut status: GatewayStatus) {
        status.roots.truncate(MAX_ROOTS);
        status.release.truncate(status.release.floor_char_boundary(MAX_RELEASE));
        let rate = self.heard.get(&node).and_then(|last| rate(last, now, &status));
        self.heard.insert(node, Heard { status, at: now, rate });
    }

    /// The cluster has these gateways; what others said is forgotten.
    pub(crate) fn retain(&mut self, members: &BTreeSet<NodeId>) {
        self.heard.retain(|node, _| members.contains(node));
    }

    /// What `node` said last, and how long ago.
    pub(crate) fn of(&self, now: Instant, node: NodeId) -> Option<(&GatewayStatus, Duration)> {
        self.heard.get(&node).map(|heard| (&heard.status, now.saturating_duration_since(heard.at)))
    }

    /// How many packets `node` forwards in a second.
    pub(crate) fn packets_per_second(&self, node: NodeId) -> Option<u64> {
        self.heard.get(&node)?.rate
    }

    /// Where the admin APIs of the gateways that were heard listen.
    pub(crate) fn admins(&self) -> BTreeSet<HostPort> {
        self.heard.values().filter_map(|heard| heard.status.admin.clone()).collect()
    }

    /// For how long `node` has been silent; nothing while it speaks.
    pub(crate) fn dead_for(&self, now: Instant, node: NodeId) -> Option<Duration> {
        let since = self.heard.get(&node).map_or(self.started, |heard| heard.at);
        let silent = now.saturating_duration_since(since);
        (silent >= SILENT_AFTER).then_some(silent)
    }

    /// The newest revision that any of them spoke of.
    pub(crate) fn newest(&self) -> Option<Revision> {
        self.heard.values().map(|heard| heard.status.revision).max()
    }

    /// The gateways that speak.
    fn alive(&self, now: Instant) -> impl Iterator<Item = &GatewayStatus> {
        let speaks = move |heard: &&Heard| now.saturating_duration_since(heard.at) < SILENT_AFTER;
        self.heard.values().filter(speaks).map(|heard| &heard.status)
    }

    /// Whether every gateway that speaks, with its sidecars, trusts whom the registry said to trust at `revision`.
    pub(crate) fn have_taken(&self, now: Instant, revision: Revision, members: &BTreeSet<NodeId>) -> bool {
        // who was not heard yet, and not given up either, may lack it
        let awaited = |node: &NodeId| !self.heard.contains_key(node) && self.dead_for(now, *node).is_none();
        if members.iter().any(awaited) {
            return false;
        }
        self.alive(now).all(|status| {
            status.revision >= revision && status.least_bundle.is_none_or(|least| least >= revision)
        })
    }

    /// The roots that certificates of gateways that speak and of their sidecars chain to.
    pub(crate) fn roots(&self, now: Instant) -> BTreeSet<[u8; 8]> {
        self.alive(now).flat_map(|status| std::iter::once(status.root).chain(status.roots.clone())).collect()
    }
}

/// Packets in a second since the `last` report; nothing when the gateway was started anew.
fn rate(last: &Heard, now: Instant, status: &GatewayStatus) -> Option<u64> {
    let packets = u128::from(status.packets.checked_sub(last.status.packets)?);
    let ms = now.saturating_duration_since(last.at).as_millis();
    u64::try_from((packets * 1000).checked_div(ms)?).ok()
}

/// Whether something has been so for long enough to be believed.
#[derive(Debug, Default)]
pub(crate) struct Settled(Option<Instant>);

impl Settled {
    /// It is so now, or it is not; returns whether it has been for long enough.
    pub(crate) fn observe(&mut self, now: Instant, so: bool) -> bool {
        if !so {
            self.0 = None;
            return false;
        }
        now.saturating_duration_since(*self.0.get_or_insert(now)) >= SETTLED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(revision: u64, least: Option<u64>, root: u8, roots: &[u8]) -> GatewayStatus {
        GatewayStatus {
            release: "0.1.0".into(),
            revision: Revision(revision),
            root: [root; 8],
            ready: true,
            draining: false,
            attached: 1,
            packets: 0,
            up_secs: 1,
            least_bundle: least.map(Revision),
            roots: roots.iter().map(|&root| [root; 8]).collect(),
            admin: None,
            unix_time: 0,
        }
    }

    #[test]
    fn who_falls_silent_is_dead_and_holds_nothing_up() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let (mut siblings, none) = (Siblings::new(start), BTreeSet::new());
        assert_eq!(siblings.dead_for(at(1_999), NodeId(2)), None, "it has not had its time yet");
        assert_eq!(siblings.dead_for(at(2_000), NodeId(2)), Some(Duration::from_secs(2)));
        siblings.handle_status(at(2_500), NodeId(2), status(5, Some(4), 1, &[1, 2]));
        assert_eq!(siblings.dead_for(at(3_000), NodeId(2)), None);
        assert!(!siblings.have_taken(at(3_000), Revision(5), &none), "a sidecar of it has not");
        assert!(siblings.have_taken(at(3_000), Revision(4), &none));
        assert_eq!(siblings.roots(at(3_000)), [[1; 8], [2; 8]].into());
        assert!(siblings.have_taken(at(4_500), Revision(9), &none), "the dead are asked no more");
        assert!(siblings.roots(at(4_500)).is_empty());
        siblings.retain(&BTreeSet::new());
        assert!(siblings.of(at(4_500), NodeId(2)).is_none());
    }

    #[test]
    fn a_gateway_without_sidecars_has_taken_what_its_replica_has() {
        let now = Instant::now();
        let mut siblings = Siblings::new(now);
        siblings.handle_status(now, NodeId(2), status(5, None, 1, &[]));
        let both = [NodeId(2), NodeId(3)].into();
        assert!(siblings.have_taken(now, Revision(5), &[NodeId(2)].into()));
        assert!(!siblings.have_taken(now, Revision(6), &[NodeId(2)].into()));
        assert!(!siblings.have_taken(now, Revision(5), &both), "one is not heard yet");
        let later = now + Duration::from_secs(2);
        assert!(siblings.have_taken(later, Revision(5), &both), "it is given up");
    }

    #[test]
    fn what_a_sibling_says_is_bounded() {
        let now = Instant::now();
        let mut siblings = Siblings::new(now);
        let roots: Vec<u8> = (0..200).collect();
        let said = GatewayStatus { release: "ü".repeat(500), ..status(1, None, 1, &roots) };
        siblings.handle_status(now, NodeId(2), said);
        let (kept, _) = siblings.of(now, NodeId(2)).unwrap();
        assert_eq!((kept.roots.len(), kept.release.len()), (16, 64));
    }

    #[test]
    fn a_state_is_believed_after_it_has_lasted() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut settled = Settled::default();
        assert!(!settled.observe(at(0), true));
        assert!(!settled.observe(at(5), true));
        assert!(!settled.observe(at(5), false));
        assert!(!settled.observe(at(6), true));
        assert!(!settled.observe(at(11), true));
        assert!(settled.observe(at(12), true));
    }
}
