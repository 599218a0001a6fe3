//! What two siblings say of liveness, true or not: nothing panics, and what this gateway says in turn keeps to the bounds.
#![no_main]

use causeway_fuzz::{parts, survives};
use causeway_model::NodeId;
use causeway_presence::{Incarnation, Message, Presence, PresenceConfig, Row};
use causeway_wire::codec;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
const SIBLINGS: [NodeId; 2] = [NodeId(2), NodeId(3)];

fuzz_target!(|input: &[u8]| {
    let mut now = *START;
    let mut presence = Presence::new(NodeId(1), Incarnation(1), PresenceConfig::default(), now);
    SIBLINGS.iter().for_each(|&node| presence.handle_peer_up(now, node));
    for (part, &from) in parts(input).zip(SIBLINGS.iter().cycle()) {
        let Ok(message) = codec::from_slice::<Message>(part) else { continue };
        survives(&message);
        adopt(&mut presence, now, &message);
        let bounded = message.check().is_ok();
        assert!(presence.handle_message(now, from, message).is_ok() <= bounded);
        now += Duration::from_millis(170);
        presence.handle_timeout(now);
        drain(&mut presence);
    }
    assert!(presence.poll_timeout().is_some());
    presence.handle_timeout(now + Duration::from_secs(60));
    drain(&mut presence);
});

/// Some rows become this gateway's own, so that there is something to tell.
fn adopt(presence: &mut Presence, now: Instant, message: &Message) {
    let Message::Snapshot { rows, part: 0, .. } = message else { return };
    for row in rows {
        let _ = presence.handle_attach(now, Row::clone(row));
    }
}

fn drain(presence: &mut Presence) {
    while let Some((to, message)) = presence.poll_transmit() {
        assert!(SIBLINGS.contains(&to));
        message.check().expect("what this gateway says keeps to the bounds");
        codec::to_vec(&message).expect("what this gateway says fits in a frame");
    }
    while presence.poll_event().is_some() {}
    for view in presence.workloads() {
        assert!(presence.is_alive(view.row.workload), "{view:?}");
    }
    assert_eq!(presence.workloads().count(), presence.workload_count());
}
