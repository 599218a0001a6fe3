use super::*;
use causeway_model::{ClusterFacts, Locality, ServiceHandle, ServiceName};
use causeway_wire::view::ExportSummary;
use proptest::prelude::*;

fn rules(max_imports: usize) -> ImportRules {
    ImportRules {
        max_imports,
        ..ImportRules::new(ClusterFacts {
            name: "phx".parse().unwrap(),
            id: causeway_model::ClusterId::new(2).unwrap(),
            trust_domain: "phx.mesh".parse().unwrap(),
            locality: Locality { region: "phx".into(), zone: "a".into() },
        })
    }
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

fn delta(from: u64, to: u64, upserts: Vec<ExportSummary>, removed: &[u64]) -> Exports {
    Exports {
        epoch: Epoch(1),
        from: Revision(from),
        to: Revision(to),
        snapshot: None,
        upserts,
        removed: removed.iter().copied().map(ServiceHandle).collect(),
    }
}

fn part(epoch: u64, to: u64, index: u32, last: bool, upserts: Vec<ExportSummary>) -> Exports {
    let snapshot = Some(SnapshotPart { index, last });
    Exports { epoch: Epoch(epoch), snapshot, ..delta(0, to, upserts, &[]) }
}

fn started(rules: ImportRules, offers: Vec<ExportSummary>) -> (Importer, CopyChange, Instant) {
    let now = Instant::now();
    let mut importer = Importer::new(rules);
    let change = importer.hear(now, part(1, 10, 0, true, offers)).unwrap();
    (importer, change, now)
}

impl Importer {
    /// Takes a frame of a peer with one gateway.
    fn hear(&mut self, now: Instant, frame: Exports) -> Result<CopyChange, ImportError> {
        self.handle_exports(now, frame, &Offers::default(), 1)
    }
}

/// In order of their handles.
fn names(importer: &Importer) -> Vec<String> {
    importer.offers().iter().map(|offer| offer.service().to_owned()).collect()
}

fn changed(change: &CopyChange) -> Vec<u64> {
    change.handles.iter().map(|handle| handle.0).collect()
}

fn is_nothing(change: &CopyChange) -> bool {
    *change == CopyChange::default()
}

#[test]
fn offers_that_break_a_rule_are_refused_and_the_others_are_taken() {
    let locality = |len: usize| Locality { region: "r".repeat(len), zone: "z".into() };
    let identity = |id: &str| vec![id.parse().unwrap()];
    let foreign = identity("spiffe://iad.mesh/ns/shop/sa/web");
    let mixed = [offer(0, "x").identities, foreign.clone()].concat();
    let bad = [
        (ExportSummary { identities: foreign, ..offer(1, "a") }, "foreign-identity"),
        (ExportSummary { identities: mixed, ..offer(2, "b") }, "foreign-identity"),
        (
            ExportSummary {
                identities: identity("spiffe://phx.mesh/causeway/gateway/0000000000000007"),
                ..offer(3, "c")
            },
            "not-a-workload",
        ),
        (
            ExportSummary { identities: vec![offer(0, "x").identities[0].clone(); 65], ..offer(4, "d") },
            "too-many-identities",
        ),
        (ExportSummary { identities: Vec::new(), ..offer(5, "e") }, "no-identity"),
        (ExportSummary { ports: Default::default(), ..offer(6, "f") }, "no-ports"),
        (ExportSummary { localities: vec![(locality(129), 1)], ..offer(7, "g") }, "long-locality"),
        (ExportSummary { localities: vec![(locality(128), 1); 65], ..offer(8, "h") }, "too-many-localities"),
        (ExportSummary { healthy: 2, ..offer(9, "i") }, "impossible-counts"),
        (offer(20, "z"), "handle-clash"),
        (offer(21, "good"), "name-clash"),
    ];
    let offers = [offer(20, "good")].into_iter().chain(bad.iter().map(|(offer, _)| offer.clone()));
    let (importer, change, _) = started(rules(100), offers.collect());
    let reasons: Vec<_> = change.refusals.reported.iter().map(|refused| refused.fault.reason()).collect();
    assert_eq!(reasons, bad.iter().map(|(_, reason)| *reason).collect::<Vec<_>>());
    assert_eq!((names(&importer), change.refusals.count), (vec!["good".to_owned()], 11));
}

#[test]
fn the_cap_keeps_the_lowest_handles_in_whatever_order_they_come() {
    let forward: Vec<_> = (0..9).map(|i| offer(i, &format!("s{i}"))).collect();
    let backward: Vec<_> = forward.iter().rev().cloned().collect();
    for offers in [forward, backward] {
        let (mut importer, change, now) = started(rules(4), offers);
        assert_eq!((names(&importer).join(" "), change.refusals.over_cap), ("s0 s1 s2 s3".to_owned(), 5));
        assert!(importer.is_over_cap());
        let digest =
            |revision| ExportsDigest { epoch: Epoch(1), revision: Revision(revision), count: 9, digest: 5 };
        assert_eq!(importer.handle_digest(now, &digest(10), true), DigestVerdict::InStep, "nothing to gain");
        importer.hear(now, delta(10, 11, vec![], &[0])).unwrap();
        assert_eq!(importer.handle_digest(now, &digest(11), true), DigestVerdict::Ask, "there is room now");
        assert_eq!(importer.handle_digest(now + ASK_AGAIN, &digest(11), true), DigestVerdict::Wait);
    }
}

#[test]
fn bytes_are_capped_too() {
    let mut tight = rules(100);
    tight.max_bytes = 300;
    let (importer, change, _) = started(tight, (0..50).map(|i| offer(i, &format!("s{i}"))).collect());
    assert!(change.refusals.over_cap > 40);
    assert!(names(&importer).len() < 10 && !names(&importer).is_empty());
}

#[test]
fn a_snapshot_without_end_is_cut_off_and_holds_no_memory() {
    let (now, mut importer) = (Instant::now(), Importer::new(rules(10)));
    let mut handle = 0;
    for index in 0..4096 {
        let offers = (0..8)
            .map(|_| {
                handle += 1;
                offer(handle, &format!("s{handle}"))
            })
            .collect();
        assert!(is_nothing(&importer.hear(now, part(1, 9, index, false, offers)).unwrap()));
        assert!(importer.assembly.as_ref().unwrap().held() <= 10);
    }
    let error = importer.hear(now, part(1, 9, 4096, false, vec![])).unwrap_err();
    assert!(error.is_violation(), "{error}");
    assert!(importer.assembly.is_none() && importer.offers().len() == 0);
    assert!(importer.hear(now, part(1, 9, u32::MAX, true, vec![])).unwrap_err().is_violation());
}

#[test]
fn frames_that_break_the_protocol_change_nothing() {
    let (mut importer, _, now) = started(rules(1000), vec![offer(1, "a")]);
    let many = (0..513).map(|i| offer(i, &format!("s{i}"))).collect();
    assert_eq!(importer.hear(now, delta(10, 11, many, &[])).unwrap_err().reason(), "too-many-exports");
    assert_eq!(importer.hear(now, delta(10, 9, vec![], &[1])).unwrap_err().reason(), "backwards-delta");
    assert_eq!(
        (names(&importer).join(" "), importer.have()),
        ("a".to_owned(), Some((Epoch(1), Revision(10))))
    );
}

#[test]
fn deltas_follow_each_other_and_a_gap_asks_once() {
    let (mut importer, _, now) = started(rules(10), vec![offer(1, "a")]);
    let change = importer.hear(now, delta(10, 12, vec![offer(2, "b")], &[1])).unwrap();
    assert_eq!(changed(&change), [1, 2]);
    assert!(is_nothing(&importer.hear(now, delta(10, 12, vec![offer(2, "b")], &[1])).unwrap()), "repeated");
    let overlap = importer.hear(now, delta(11, 13, vec![offer(2, "b"), offer(3, "c")], &[])).unwrap();
    assert_eq!(changed(&overlap), [3]);
    let gap = importer.hear(now, delta(14, 15, vec![], &[2])).unwrap_err();
    assert!(gap.ask() && !gap.is_violation());
    assert!(!importer.hear(now, delta(15, 16, vec![], &[2])).unwrap_err().ask());
    assert!(importer.hear(now + ASK_AGAIN, delta(16, 17, vec![], &[2])).unwrap_err().ask());
    assert_eq!(names(&importer), ["b", "c"]);
    let other = Exports { epoch: Epoch(2), ..delta(13, 14, vec![], &[2]) };
    assert_eq!(importer.hear(now, other).unwrap_err().reason(), "export-gap");
}

#[test]
fn a_snapshot_takes_effect_as_a_whole() {
    let (mut importer, _, now) = started(rules(10), vec![offer(1, "a"), offer(2, "b")]);
    importer.hear(now, part(2, 5, 0, false, vec![offer(2, "b")])).unwrap();
    assert_eq!(names(&importer), ["a", "b"]);
    importer.hear(now, part(2, 5, 0, false, vec![offer(2, "b")])).unwrap();
    let change = importer.hear(now, part(2, 5, 1, true, vec![offer(3, "c")])).unwrap();
    assert_eq!((names(&importer).join(" "), changed(&change)), ("b c".to_owned(), vec![1, 3]));
    assert!(is_nothing(&importer.hear(now, part(2, 5, 1, true, vec![offer(3, "c")])).unwrap()));
    importer.hear(now, part(2, 6, 0, false, vec![])).unwrap();
    assert_eq!(importer.hear(now, part(2, 6, 2, true, vec![])).unwrap_err().reason(), "export-gap");
    assert_eq!(importer.hear(now, part(2, 6, 1, true, vec![])).unwrap_err().reason(), "export-gap");
    assert_eq!(importer.have(), Some((Epoch(2), Revision(5))));
    importer.hear(now, part(2, 7, 0, false, vec![])).unwrap();
    importer.handle_timeout(importer.poll_timeout().unwrap());
    assert_eq!(importer.poll_timeout(), None, "an abandoned snapshot is dropped");
}

#[test]
fn an_older_numbering_is_late_at_first_and_believed_after_a_silence() {
    let now = Instant::now();
    let mut importer = Importer::new(rules(10));
    importer.hear(now, part(5, 10, 0, true, vec![offer(1, "a")])).unwrap();
    let old = ExportsDigest { epoch: Epoch(4), revision: Revision(99), count: 0, digest: 0 };
    assert_eq!(importer.handle_digest(now, &old, true), DigestVerdict::Wait);
    importer.hear(now, part(4, 99, 0, true, vec![])).unwrap();
    assert_eq!(names(&importer), ["a"]);
    let later = now + SILENT_AFTER;
    assert_eq!(importer.handle_digest(later, &old, true), DigestVerdict::Ask);
    importer.hear(later, part(4, 99, 0, true, vec![])).unwrap();
    assert_eq!(importer.have(), Some((Epoch(4), Revision(99))));
}

#[test]
fn repairs_that_do_not_help_become_rare() {
    let (mut importer, _, start) = started(rules(10), vec![]);
    let wrong = ExportsDigest { epoch: Epoch(1), revision: Revision(10), count: 1, digest: 1 };
    let asked = (0..3600).filter(|second| {
        let now = start + Duration::from_secs(*second);
        let ask = importer.handle_digest(now, &wrong, true) == DigestVerdict::Ask;
        if ask {
            importer.hear(now, part(1, 10, 0, true, vec![])).unwrap();
        }
        ask
    });
    assert!((5..30).contains(&asked.count()));
}

#[test]
fn a_name_may_move_between_handles_and_a_clash_heals() {
    let (mut importer, _, now) = started(rules(10), vec![offer(1, "a"), offer(2, "b")]);
    let swap = importer.hear(now, delta(10, 12, vec![offer(1, "b"), offer(2, "a")], &[])).unwrap();
    assert_eq!((swap.refusals.count, names(&importer).join(" ")), (0, "b a".to_owned()));
    let clash = importer.hear(now, delta(12, 13, vec![offer(3, "a")], &[])).unwrap();
    assert_eq!(clash.refusals.count, 1);
    importer.hear(now, delta(13, 14, vec![], &[2])).unwrap();
    let digest = importer.digest().unwrap();
    assert_eq!(importer.handle_digest(now, &digest, true), DigestVerdict::Ask, "handle 3 could be taken now");
}

fn any_offer() -> impl Strategy<Value = ExportSummary> {
    (0u64..12, 0u8..8, 0u32..4, 0u8..5).prop_map(|(handle, name, healthy, kind)| {
        let mut offer = ExportSummary { healthy, total: 2, ..offer(handle, &format!("n{name}")) };
        if kind == 0 {
            offer.identities = vec!["spiffe://evil.mesh/ns/shop/sa/web".parse().unwrap()];
        }
        offer
    })
}

fn any_frame() -> impl Strategy<Value = Exports> {
    let part = prop::option::of((0u32..4, any::<bool>()));
    let offers = prop::collection::vec(any_offer(), 0..6);
    (1u64..3, 0u64..12, 0u64..12, part, offers, prop::collection::vec(0u64..12, 0..4)).prop_map(
        |(epoch, from, to, part, offers, removed)| Exports {
            epoch: Epoch(epoch),
            snapshot: part.map(|(index, last)| SnapshotPart { index, last }),
            ..delta(from, to, offers, &removed)
        },
    )
}

proptest! {
    #[test]
    fn whatever_comes_the_bounds_hold(frames in prop::collection::vec((any_frame(), 0u64..4000), 0..60)) {
        let mut now = Instant::now();
        let mut importer = Importer::new(rules(5));
        let mut known: std::collections::BTreeMap<ServiceHandle, (ServiceName, u32)> = Default::default();
        for (frame, pause) in frames {
            now += Duration::from_millis(pause);
            importer.handle_timeout(now);
            if let Ok(change) = importer.hear(now, frame) {
                let held: std::collections::BTreeMap<_, _> =
                    importer.offers().iter().map(|o| (*o.handle(), (o.name(), o.counts().0))).collect();
                for (handle, value) in &held {
                    if known.get(handle) != Some(value) {
                        prop_assert!(change.handles.contains(handle));
                    }
                }
                for handle in known.keys() {
                    if !held.contains_key(handle) {
                        prop_assert!(change.handles.contains(handle));
                    }
                }
                known = held;
            }
            prop_assert!(importer.offers().len() <= 5);
            let mut names = std::collections::BTreeSet::new();
            for packed in importer.offers().iter() {
                let offer = packed.open(&rules(5).peer);
                prop_assert!(names.insert(offer.name.clone()), "a name twice");
                prop_assert!(offer.identities.iter().all(|id| id.trust_domain().as_str() == "phx.mesh"));
                prop_assert!(offer.healthy <= offer.total);
            }
            prop_assert!(importer.table.is_consistent());
        }
    }
}
