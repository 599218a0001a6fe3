use super::*;
use causeway_wire::codec::Message;
use causeway_wire::link::{LinkMessage, MAX_EXPORTS_PER_FRAME};
use std::time::Duration;

fn summary(handle: u64, healthy: u32) -> ExportSummary {
    ExportSummary {
        name: format!("s{handle}.shop").parse().unwrap(),
        handle: ServiceHandle(handle),
        ports: vec!["80/http".parse().unwrap()].try_into().unwrap(),
        identities: vec!["spiffe://iad.mesh/ns/shop/sa/web".parse().unwrap()],
        healthy,
        total: 10,
        localities: Vec::new(),
    }
}

fn set(handles: impl IntoIterator<Item = u64>, healthy: u32) -> BTreeMap<ServiceHandle, ExportSummary> {
    handles.into_iter().map(|handle| (ServiceHandle(handle), summary(handle, healthy))).collect()
}

#[test]
fn revisions_count_changes_and_a_current_peer_is_told_nothing() {
    let mut exporter = Exporter::new(Epoch(7));
    assert_eq!(exporter.set_exports(set(1..=3, 1)).changed, 3);
    assert_eq!(exporter.position(), (Epoch(7), Revision(3)));
    assert_eq!(exporter.set_exports(set(1..=3, 1)).changed, 0);
    assert!(exporter.resume((Epoch(7), Revision(3))).unwrap().is_empty());
}

#[test]
fn a_delta_holds_each_export_once_at_its_last_change() {
    let mut exporter = Exporter::new(Epoch(1));
    exporter.set_exports(set(1..=2, 1));
    exporter.set_exports(set(1..=2, 2));
    exporter.set_exports(set(2..=2, 2));
    let frames = exporter.resume((Epoch(1), Revision(0))).unwrap();
    assert_eq!(frames.len(), 1);
    assert_eq!((frames[0].from, frames[0].to), (Revision(0), Revision(5)));
    assert_eq!(frames[0].upserts, [summary(2, 2)]);
    assert_eq!(frames[0].removed, [ServiceHandle(1)]);
}

#[test]
fn another_epoch_the_future_and_a_lost_past_get_a_snapshot_when_they_ask() {
    let mut exporter = Exporter::new(Epoch(2));
    for healthy in 0..6 {
        exporter.set_exports(set(0..1000, healthy));
    }
    for have in [
        (Epoch(1), Revision(6000)),
        (Epoch(2), Revision(6001)),
        (Epoch(2), Revision(0)),
        (Epoch(2), Revision(6000 - MAX_LOG as u64 - 1)),
    ] {
        assert_eq!(exporter.resume(have), None);
        let mut cursor = ExportCursor::new(Some(have));
        assert!(exporter.poll(Instant::now(), &mut cursor).is_empty(), "a digest comes first");
        cursor.handle_send_snapshot();
        let frames = exporter.poll(Instant::now(), &mut cursor);
        let parts: Vec<_> = frames.iter().filter_map(|frame| frame.snapshot).collect();
        assert_eq!(
            parts.iter().map(|part| (part.index, part.last)).collect::<Vec<_>>(),
            [(0, false), (1, true)]
        );
    }
    assert!(exporter.resume((Epoch(2), Revision(6000 - MAX_LOG as u64))).is_some());
}

#[test]
fn no_frame_is_too_long_and_deltas_lead_from_one_to_the_next() {
    let mut exporter = Exporter::new(Epoch(1));
    let long = "a".repeat(1900);
    let large = |handle: u64| {
        let ids = (0..64).map(|i| format!("spiffe://{}/ns/shop/sa/a{i}", "d".repeat(200)).parse().unwrap());
        let locality = causeway_model::Locality { region: long[..128].into(), zone: long[..128].into() };
        ExportSummary { identities: ids.collect(), localities: vec![(locality, 1); 64], ..summary(handle, 1) }
    };
    let outcome = exporter.set_exports((0..700).map(|i| (ServiceHandle(i), large(i))).collect());
    assert!(outcome.left_out.is_empty());
    let frames = exporter.resume((Epoch(1), Revision(0))).unwrap();
    assert!(frames.len() > 1);
    let mut at = Revision(0);
    for frame in frames {
        assert_eq!(frame.from, at);
        at = frame.to;
        assert!(frame.upserts.len() <= MAX_EXPORTS_PER_FRAME);
        LinkMessage::from(frame).to_frame().unwrap();
    }
    assert_eq!(at, Revision(700));
    for frame in exporter.snapshot() {
        LinkMessage::from(frame).to_frame().unwrap();
    }
}

#[test]
fn what_a_peer_would_refuse_is_left_out() {
    let mut exporter = Exporter::new(Epoch(1));
    let mut desired = set(1..=4, 1);
    desired.get_mut(&ServiceHandle(2)).unwrap().name = "s1.shop".parse().unwrap();
    desired.get_mut(&ServiceHandle(3)).unwrap().healthy = 11;
    desired.get_mut(&ServiceHandle(4)).unwrap().identities.clear();
    let outcome = exporter.set_exports(desired);
    let reasons: Vec<_> = outcome.left_out.iter().map(|left| left.fault.reason()).collect();
    assert_eq!(reasons, ["name-clash", "impossible-counts", "no-identity"]);
    assert_eq!(exporter.len(), 1);
}

#[test]
fn a_peer_cannot_ask_for_snapshots_in_a_row() {
    let now = Instant::now();
    let mut exporter = Exporter::new(Epoch(1));
    exporter.set_exports(set(1..=2, 1));
    let mut cursor = ExportCursor::new(None);
    assert!(exporter.poll(now, &mut cursor).is_empty());
    cursor.handle_send_snapshot();
    assert!(exporter.poll(now, &mut cursor)[0].snapshot.is_some());
    cursor.handle_send_snapshot();
    assert!(exporter.poll(now, &mut cursor).is_empty());
    exporter.set_exports(set(1..=3, 1));
    let delta = exporter.poll(now + Duration::from_millis(500), &mut cursor);
    assert!(delta[0].snapshot.is_none(), "deltas go on meanwhile");
    assert_eq!(cursor.poll_timeout(), Some(now + SNAPSHOT_INTERVAL));
    assert!(exporter.poll(now + SNAPSHOT_INTERVAL, &mut cursor)[0].snapshot.is_some());
    assert_eq!(cursor.poll_timeout(), None);
}

#[test]
fn a_peer_that_has_what_a_digest_said_is_told_what_came_later() {
    let mut exporter = Exporter::new(Epoch(1));
    exporter.set_exports(set(1..=2, 1));
    let mut cursor = ExportCursor::new(None);
    let (now, digest) = (Instant::now(), exporter.digest());
    assert!(exporter.poll(now, &mut cursor).is_empty());
    exporter.set_exports(set(1..=3, 1));
    assert!(exporter.poll(now, &mut cursor).is_empty(), "nobody knows yet what the peer has");
    cursor.handle_have((digest.epoch, digest.revision));
    let frames = exporter.poll(now, &mut cursor);
    assert_eq!((frames.len(), &frames[0].upserts[..]), (1, &[summary(3, 1)][..]));
    assert!(!cursor.handle_have((Epoch(9), Revision(9))), "what was never said leads nowhere");
    assert!(!cursor.handle_have((digest.epoch, digest.revision)), "it is late");
    // so much changes at once that no delta leads on; the peer gets it from somebody else
    for healthy in 2..8 {
        exporter.set_exports(set(0..1000, healthy));
    }
    assert!(exporter.poll(now, &mut cursor).is_empty());
    assert!(cursor.handle_have(exporter.position()));
    exporter.set_exports(set(0..999, 7));
    assert_eq!(exporter.poll(now, &mut cursor)[0].removed, [ServiceHandle(999)]);
}
