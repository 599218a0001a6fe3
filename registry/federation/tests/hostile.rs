//! A peer that means harm: each bound on what it may make us believe (design section 9), with a peer that goes past it.
//!
//! - identities outside its trust domain, gateways and forwarders among them
//! - more offers than the cap, more bytes than the bound, a cap that shrinks at run time
//! - one handle twice, one name under two handles, removal of what it never offered
//! - deltas that do not connect, snapshot parts out of order and without end
//! - epochs that go back, revisions at the end of the numbers
//! - digests that never match: no storm of snapshots
//! - names of a namespace that the link does not merge, names equal to local ones, port sets that contradict
//! - flapping: work is bounded by what it sends, and orderings do not follow
//! - made-up health: no place before others
//! - made-up localities: how near it is, is what was known when the link was made
//! - its own gateways contradicting each other
//! - endpoints of other clusters, and endpoints that nobody asked for: `src/endpoints.rs`
//! - reports on what our gateways hear: `src/path/link/tests.rs`

#![allow(clippy::unwrap_used, reason = "a test")]

use causeway_federation::{
    DIGEST_INTERVAL, DigestVerdict, ImportChange, ImportError, ImportRules, MAX_PEER_NODES, PeerImports,
    PeerOffer, StalePolicy, merge_offers,
};
use causeway_model::{ClusterFacts, ClusterId, Epoch, Locality, NodeId, Revision, ServiceHandle};
use causeway_wire::link::{Exports, ExportsDigest, SnapshotPart};
use causeway_wire::view::{ExportSummary, Offer};
use std::time::{Duration, Instant};

const NODE: NodeId = NodeId(1);

fn facts(name: &str, id: u32, region: &str, zone: &str) -> ClusterFacts {
    ClusterFacts {
        name: name.parse().unwrap(),
        id: ClusterId::new(id).unwrap(),
        trust_domain: format!("{name}.mesh").parse().unwrap(),
        locality: Locality { region: region.into(), zone: zone.into() },
    }
}

fn rules() -> ImportRules {
    ImportRules::new(facts("phx", 2, "phx", "a"))
}

fn offer(handle: u64, name: &str) -> ExportSummary {
    ExportSummary {
        name: format!("{name}.shop").parse().unwrap(),
        handle: ServiceHandle(handle),
        ports: vec!["80/http".parse().unwrap()].try_into().unwrap(),
        identities: vec!["spiffe://phx.mesh/ns/shop/sa/web".parse().unwrap()],
        healthy: 1,
        total: 1,
        localities: Vec::new(),
    }
}

fn many(range: std::ops::Range<u64>) -> Vec<ExportSummary> {
    range.map(|handle| offer(handle, &format!("s{handle}"))).collect()
}

/// A peer with one gateway that says whatever the test wants.
struct Peer {
    now: Instant,
    imports: PeerImports,
}

impl Peer {
    fn new(rules: ImportRules) -> Self {
        let mut peer = Self { now: Instant::now(), imports: PeerImports::new(rules) };
        peer.imports.handle_open(peer.now, NODE).unwrap();
        peer
    }

    /// A snapshot of one part at epoch 1, revision 10.
    fn with(rules: ImportRules, offers: Vec<ExportSummary>) -> (Self, ImportChange) {
        let mut peer = Self::new(rules);
        let change = peer.part(1, 10, 0, true, offers).unwrap();
        (peer, change)
    }

    fn say(&mut self, frame: Exports) -> Result<ImportChange, ImportError> {
        self.imports.handle_exports(self.now, NODE, frame)
    }

    fn part(
        &mut self,
        epoch: u64,
        to: u64,
        index: u32,
        last: bool,
        upserts: Vec<ExportSummary>,
    ) -> Result<ImportChange, ImportError> {
        let snapshot = Some(SnapshotPart { index, last });
        let (epoch, to) = (Epoch(epoch), Revision(to));
        self.say(Exports { epoch, from: Revision(0), to, snapshot, upserts, removed: Vec::new() })
    }

    fn delta(
        &mut self,
        from: u64,
        to: u64,
        upserts: Vec<ExportSummary>,
        removed: &[u64],
    ) -> Result<ImportChange, ImportError> {
        self.say(Exports {
            epoch: Epoch(1),
            from: Revision(from),
            to: Revision(to),
            snapshot: None,
            upserts,
            removed: removed.iter().copied().map(ServiceHandle).collect(),
        })
    }

    fn digest(&mut self, epoch: u64, revision: u64, digest: u64) -> DigestVerdict {
        let digest = ExportsDigest { epoch: Epoch(epoch), revision: Revision(revision), count: 1, digest };
        self.imports.handle_digest(self.now, NODE, &digest, true).verdict
    }

    fn names(&self) -> Vec<String> {
        self.imports.imports().map(|import| import.service().to_owned()).collect()
    }
}

fn reasons(change: &ImportChange) -> Vec<&'static str> {
    change.refused.iter().map(|refused| refused.fault.reason()).collect()
}

#[test]
fn identities_of_others_are_refused() {
    let with = |handle, id: &str| ExportSummary {
        identities: vec![offer(0, "x").identities[0].clone(), id.parse().unwrap()],
        ..offer(handle, &format!("s{handle}"))
    };
    let (peer, change) = Peer::with(
        rules(),
        vec![
            with(1, "spiffe://iad.mesh/ns/shop/sa/web"),
            with(2, "spiffe://sub.phx.mesh/ns/shop/sa/web"),
            with(3, "spiffe://phx.mesh/causeway/gateway/0000000000000001"),
            with(4, "spiffe://phx.mesh/causeway/forwarder/0000000000000001"),
            with(5, "spiffe://phx.mesh/ns/shop/sa/web/extra"),
            with(6, "spiffe://phx.mesh"),
            offer(7, "good"),
        ],
    );
    let foreign = ["foreign-identity"; 2].into_iter();
    assert_eq!(reasons(&change), foreign.chain(["not-a-workload"; 4]).collect::<Vec<_>>());
    assert_eq!(peer.names(), ["good"]);
}

#[test]
fn more_than_the_cap_is_kept_out_and_counted() {
    let (mut peer, change) = Peer::with(ImportRules { max_imports: 100, ..rules() }, many(0..500));
    assert_eq!((peer.imports.len(), change.over_cap, peer.imports.is_over_cap()), (100, 400, true));
    for round in 0..50 {
        let offers = many(1000 + round * 500..1500 + round * 500);
        let change = peer.delta(10 + round, 11 + round, offers, &[]).unwrap();
        assert_eq!((peer.imports.len(), change.over_cap), (100, 500));
    }
    // refused offers take places as well: they do not grow without bound, and cannot push out what is lower
    let bad = |handle| ExportSummary { identities: Vec::new(), ..offer(handle, "bad") };
    peer.delta(60, 61, (5000..5500).map(bad).collect(), &[]).unwrap();
    assert_eq!(peer.imports.len(), 100);
}

#[test]
fn more_bytes_than_the_bound_are_kept_out() {
    let long = |n: u64| ExportSummary {
        identities: (0..64)
            .map(|i| format!("spiffe://phx.mesh/ns/{}/sa/n{n}-{i}", "x".repeat(63)).parse().unwrap())
            .collect(),
        ..offer(n, &format!("s{n}"))
    };
    let (peer, change) =
        Peer::with(ImportRules { max_bytes: 64 << 10, ..rules() }, (0..100).map(long).collect());
    assert!((5..20).contains(&peer.imports.len()), "{}", peer.imports.len());
    assert_eq!(change.over_cap, 100 - peer.imports.len() as u64);
}

#[test]
fn a_cap_that_shrinks_drops_at_once_and_one_that_grows_fetches() {
    let (mut peer, _) = Peer::with(rules(), many(0..100));
    let now = peer.now;
    let change = peer.imports.set_rules(now, ImportRules { max_imports: 10, ..rules() });
    assert_eq!((peer.imports.len(), change.changed.len(), change.over_cap), (10, 90, 90));
    assert_eq!(peer.digest(1, 10, 7), DigestVerdict::InStep, "nothing to gain");
    let stranger = facts("evil", 9, "iad", "a");
    let change = peer.imports.set_rules(now, ImportRules { max_imports: 50, peer: stranger, ..rules() });
    assert!(change.is_empty());
    assert_eq!(peer.imports.peer().name.as_str(), "phx", "a link stays one with its peer");
    assert_eq!(peer.digest(1, 10, 7), DigestVerdict::Ask);
    assert_eq!(peer.part(1, 10, 0, true, many(0..100)).unwrap().changed.len(), 40);
    assert_eq!(peer.imports.len(), 50);
}

#[test]
fn the_first_of_two_counts() {
    let (mut peer, change) =
        Peer::with(rules(), vec![offer(1, "a"), offer(1, "b"), offer(2, "a"), offer(3, "c")]);
    assert_eq!(reasons(&change), ["handle-clash", "name-clash"]);
    assert_eq!(peer.names(), ["a", "c"]);
    let change = peer.delta(10, 11, vec![offer(4, "c"), offer(5, "d"), offer(5, "e")], &[]).unwrap();
    assert_eq!(reasons(&change), ["name-clash", "handle-clash"]);
    assert_eq!(peer.names(), ["a", "c", "d"]);
}

#[test]
fn removal_of_what_was_never_offered_is_nothing() {
    let (mut peer, _) = Peer::with(rules(), vec![offer(1, "a")]);
    let removed: Vec<u64> = (2..100_000).collect();
    assert!(peer.delta(10, 11, Vec::new(), &removed).unwrap().is_empty());
    assert_eq!(peer.names(), ["a"]);
}

#[test]
fn deltas_that_do_not_connect_change_nothing_and_ask_seldom() {
    let (mut peer, _) = Peer::with(rules(), vec![offer(1, "a")]);
    let mut asked = 0;
    for round in 0..1000 {
        peer.now += Duration::from_millis(10);
        let error = peer.delta(1000 + round * 10, 1001 + round * 10, many(5..9), &[1]).unwrap_err();
        assert_eq!(error.reason(), "export-gap");
        asked += u32::from(error.ask());
    }
    assert_eq!(peer.names(), ["a"]);
    assert!(asked <= 5, "{asked} requests in 10 s");
}

#[test]
fn snapshot_parts_out_of_order_are_dropped_with_what_came_before() {
    let mut peer = Peer::new(rules());
    assert!(peer.part(1, 10, 1, false, many(0..100)).is_err());
    assert!(peer.part(1, 10, 0, false, many(0..100)).is_ok());
    assert!(peer.part(1, 10, 2, true, many(100..200)).is_err());
    assert!(peer.part(1, 10, 1, true, many(100..200)).is_err());
    assert!(peer.imports.is_empty());
    // parts of several snapshots, mixed: only one is being received at a time
    for at in (0..200).map(|round| 10 + round) {
        peer.part(1, at, 0, false, many(0..100)).unwrap();
        assert!(peer.part(1, at + 500, 1, false, many(100..200)).is_err());
    }
    assert!(peer.imports.is_empty());
}

#[test]
fn a_snapshot_without_end_is_a_violation() {
    let mut peer = Peer::new(ImportRules { max_imports: 50, ..rules() });
    let error = (0..=u32::MAX).find_map(|index| peer.part(1, 10, index, false, many(0..8)).err()).unwrap();
    assert!(error.is_violation(), "{error}");
    assert_eq!(error.reason(), "endless-snapshot");
    assert!(peer.imports.is_empty());
}

#[test]
fn epochs_that_go_back_are_late_at_first_and_never_mixed() {
    let (mut peer, _) = Peer::with(rules(), many(0..5));
    assert!(peer.part(0, 99, 0, true, many(5..9)).unwrap().is_empty());
    assert_eq!(peer.digest(0, 99, 1), DigestVerdict::Wait);
    assert_eq!(peer.imports.len(), 5);
    peer.now += Duration::from_secs(5);
    assert_eq!(peer.part(0, 99, 0, true, many(5..9)).unwrap().changed.len(), 9);
    assert_eq!(
        peer.delta(10, 11, many(0..5), &[]).unwrap_err().reason(),
        "export-gap",
        "the other epoch is over"
    );
}

#[test]
fn the_end_of_the_numbers_is_no_end() {
    let mut peer = Peer::new(rules());
    peer.part(u64::MAX, u64::MAX, 0, true, many(0..5)).unwrap();
    let last = |from, to| Exports {
        epoch: Epoch(u64::MAX),
        from: Revision(from),
        to: Revision(to),
        snapshot: None,
        upserts: many(5..9),
        removed: Vec::new(),
    };
    assert!(peer.say(last(u64::MAX, u64::MAX)).unwrap().is_empty(), "it leads nowhere");
    assert!(peer.say(last(u64::MAX, 0)).unwrap_err().is_violation());
    assert_eq!(peer.digest(u64::MAX, u64::MAX, 1), DigestVerdict::Ask);
    // the peer is not shut out for ever: a new numbering is believed once this one is not confirmed any longer
    peer.now += Duration::from_secs(5);
    assert_eq!(peer.digest(7, 7, 1), DigestVerdict::Ask);
    peer.part(7, 7, 0, true, many(0..2)).unwrap();
    assert_eq!(peer.imports.len(), 2);
}

#[test]
fn digests_that_never_match_cause_no_storm() {
    let (mut peer, _) = Peer::with(rules(), many(0..5));
    let mut asked = 0;
    for second in 0..3600 {
        peer.now += DIGEST_INTERVAL / 10;
        // a hundred a second, each another one, and each request is answered
        for wrong in 0..10 {
            if peer.digest(1, 10, 1 + second * 10 + wrong) == DigestVerdict::Ask {
                asked += 1;
                assert!(peer.part(1, 10, 0, true, many(0..5)).unwrap().is_empty());
            }
        }
    }
    assert!((3..12).contains(&asked), "{asked} snapshots in six minutes");
    // digests of revisions that do not exist
    let mut asked = 0;
    for round in 0..3600 {
        peer.now += DIGEST_INTERVAL / 10;
        asked += u32::from(peer.digest(1, 100 + round, 1) == DigestVerdict::Ask);
    }
    assert!(asked <= 180, "{asked}: one in two seconds at most");
}

/// What is told of `pay.shop` in cluster iad, which is at iad/a.
fn merge(local: bool, peers: Vec<PeerOffer>) -> (Vec<String>, Vec<(String, &'static str)>) {
    let own = facts("iad", 1, "iad", "a");
    let local = local.then(|| Offer { cluster: own.clone(), handle: None, ..told(&own, 1, "80/http") });
    let merged = merge_offers(&"pay.shop".parse().unwrap(), &own, local, peers, &own.locality);
    let order = merged.view.offers.iter().map(|offer| offer.cluster.name.to_string()).collect();
    let conflicts = merged.conflicts.iter().map(|c| (c.cluster.to_string(), c.why.reason())).collect();
    (order, conflicts)
}

fn told(cluster: &ClusterFacts, healthy: u32, port: &str) -> Offer {
    Offer {
        cluster: cluster.clone(),
        handle: Some(ServiceHandle(1)),
        ports: vec![port.parse().unwrap()].try_into().unwrap(),
        identities: Vec::new(),
        healthy,
        total: healthy,
        stale_for: None,
        endpoints: Vec::new(),
    }
}

fn linked(offer: Offer, may_merge: bool, linked_at: u64) -> PeerOffer {
    PeerOffer { offer, may_merge, linked_at: Revision(linked_at) }
}

#[test]
fn a_local_name_is_not_taken_over() {
    let phx = facts("phx", 2, "iad", "a");
    let evil = |port, may_merge| vec![linked(told(&phx, u32::MAX, port), may_merge, 0)];
    assert_eq!(merge(true, evil("80/http", false)), (vec!["iad".into()], vec![("2".into(), "not-merged")]));
    assert_eq!(merge(true, evil("80/tcp", true)).1, [("2".to_owned(), "other-protocol")]);
    assert_eq!(merge(true, evil("81/http", true)).1, [("2".to_owned(), "missing-port")]);
    assert_eq!(merge(true, evil("80/http", true)).0, ["iad", "phx"], "the local offer stays first");
}

#[test]
fn port_sets_that_contradict_are_settled_by_the_order_of_links() {
    let (phx, lhr) = (facts("phx", 2, "iad", "a"), facts("lhr", 3, "lhr", "a"));
    let older = linked(told(&lhr, 1, "80/http"), true, 5);
    let newer = linked(told(&phx, 99, "80/tcp"), true, 6);
    for peers in [vec![older.clone(), newer.clone()], vec![newer, older]] {
        assert_eq!(merge(false, peers), (vec!["lhr".into()], vec![("2".into(), "other-protocol")]));
    }
}

#[test]
fn made_up_health_does_not_move_an_offer_forward() {
    let (phx, lhr) = (facts("phx", 2, "phx", "a"), facts("lhr", 3, "iad", "a"));
    let (peer, change) = Peer::with(
        rules(),
        vec![
            ExportSummary { healthy: u32::MAX, total: u32::MAX, ..offer(1, "pay") },
            ExportSummary { healthy: u32::MAX, total: 1, ..offer(2, "lie") },
        ],
    );
    assert_eq!(reasons(&change), ["impossible-counts"]);
    let claims = peer.imports.by_name(&"pay.shop".parse().unwrap()).unwrap().offer(None, &[]);
    let near = linked(told(&lhr, 1, "80/http"), true, 9);
    for healthy in [0, 1, u32::MAX] {
        let far = linked(Offer { healthy, ..claims.clone() }, true, 1);
        assert_eq!(merge(false, vec![far, near.clone()]).0, ["lhr", "phx"]);
    }
    assert_eq!(claims.cluster, phx);
}

#[test]
fn a_locality_that_is_claimed_counts_for_nothing() {
    // it says that all its endpoints run where we are
    let here = facts("iad", 1, "iad", "a").locality;
    let (peer, change) =
        Peer::with(rules(), vec![ExportSummary { localities: vec![(here, 1)], ..offer(1, "pay") }]);
    assert_eq!(change.refused_count, 0);
    let claims = peer.imports.by_name(&"pay.shop".parse().unwrap()).unwrap().offer(None, &[]);
    assert_eq!(claims.cluster.locality, rules().peer.locality, "as it was when the link was made");
    let near = linked(told(&facts("lhr", 3, "iad", "b"), 1, "80/http"), true, 9);
    assert_eq!(merge(false, vec![linked(claims, true, 1), near]).0, ["lhr", "phx"]);
}

#[test]
fn flapping_offers_cost_what_is_sent() {
    let (mut peer, _) = Peer::with(rules(), many(0..500));
    let mut changed = 0;
    for round in 0..1000_u64 {
        peer.now += Duration::from_millis(10);
        let on = round % 2 == 1;
        let frame = if on { (many(7..8), vec![]) } else { (vec![], vec![7]) };
        changed += peer.delta(10 + round, 11 + round, frame.0, &frame.1).unwrap().changed.len();
    }
    assert_eq!(changed, 1000, "one event for each change, whatever else is imported");
    assert_eq!(peer.imports.len(), 500);
}

#[test]
fn a_flapping_connection_reorders_nothing_again_and_again() {
    for stale in [StalePolicy::ServeLast, StalePolicy::Fence, StalePolicy::EjectAfter(Duration::from_secs(4))]
    {
        let (mut peer, _) = Peer::with(ImportRules { stale, ..rules() }, many(0..100));
        let (mut events, mut changed) = (0, 0);
        // a hundred times a second: the connection closes and comes back, and is confirmed
        for _ in 0..3000 {
            peer.now += Duration::from_millis(10);
            let closed = peer.imports.handle_closed(peer.now, NODE);
            peer.imports.handle_open(peer.now, NODE).unwrap();
            let heard = peer.imports.handle_heard(peer.now);
            for change in [closed, heard] {
                events += u32::from(change.staleness.is_some());
                changed += change.changed.len();
            }
        }
        assert!(events <= 16, "{stale:?}: {events} changes of staleness in 30 s");
        assert!(changed <= 16 * 100, "{stale:?}: {changed}");
    }
}

#[test]
fn gateways_of_a_peer_that_contradict_each_other_stay_within_the_bounds() {
    let rules = ImportRules { max_imports: 100, ..rules() };
    let mut imports = PeerImports::new(rules);
    let now = Instant::now();
    for node in 1..=MAX_PEER_NODES as u64 {
        imports.handle_open(now, NodeId(node)).unwrap();
        // each has the same names under other handles
        let offers = (0..200).map(|n| offer(node * 1000 + n, &format!("s{n}"))).collect();
        let snapshot = Some(SnapshotPart { index: 0, last: true });
        let (from, to) = (Revision(0), Revision(1));
        let frame = Exports { epoch: Epoch(1), from, to, snapshot, upserts: offers, removed: Vec::new() };
        imports.handle_exports(now, NodeId(node), frame).unwrap();
        assert_eq!(imports.len(), 100, "names");
        assert_eq!(imports.imports().count(), 100, "a name has one offer");
    }
    assert!(matches!(imports.handle_open(now, NodeId(99)), Err(ImportError::TooManyNodes(_))));
}
