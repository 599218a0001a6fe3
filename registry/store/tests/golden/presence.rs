//! What gateways tell each other of liveness, in frames' encoding.

use crate::folder::Sample;
use crate::nouns::*;
use causeway_model::{Health, WorkloadId};
use causeway_presence::{Incarnation, Message, Row, RowChange, ServedService, TableDigest};
use causeway_wire::codec;
use std::sync::Arc;

/// Each message, with the name of its file.
pub(crate) fn all() -> Vec<(&'static str, Message)> {
    let incarnation = Incarnation(1_700_000_000_000_000);
    let digest = TableDigest { count: 300, hash: u64::MAX };
    let gone = RowChange::Gone { workload: WorkloadId(9), seq: 300 };
    let messages = [
        Message::Hello { incarnation, version: 300, digest },
        Message::Deltas {
            incarnation,
            from: 290,
            to: 300,
            changes: vec![RowChange::Up(Arc::new(row(299))), gone],
        },
        Message::Digest { incarnation, version: 300, digest },
        Message::SnapshotRequest { incarnation, have: 290, full: true },
        Message::Snapshot { incarnation, version: 300, part: 1, last: true, rows: vec![Arc::new(row(7))] },
        Message::Heartbeat { incarnation, version: 300 },
    ];
    messages.into_iter().map(|message| (name(&message), message)).collect()
}

/// A new variant does not compile here: give it a name, and an example above.
fn name(message: &Message) -> &'static str {
    match message {
        Message::Hello { .. } => "hello",
        Message::Deltas { .. } => "deltas",
        Message::Digest { .. } => "digest",
        Message::SnapshotRequest { .. } => "snapshot-request",
        Message::Snapshot { .. } => "snapshot",
        Message::Heartbeat { .. } => "heartbeat",
    }
}

pub(crate) fn sample(name: &str, message: Message) -> Sample {
    Sample::bytes(format!("presence.{name}"), codec::to_vec(&message).unwrap(), move |bytes| {
        match codec::from_slice::<Message>(bytes) {
            Ok(read) if read == message => read.check().map_err(|error| error.to_string()),
            Ok(read) => Err(format!("reads as {read:?}")),
            Err(error) => Err(error.to_string()),
        }
    })
}

fn row(seq: u64) -> Row {
    let served = |name, health| ServedService { name: parsed(name), ports: ports(), health };
    Row {
        workload: WorkloadId(0x0102_0304_0506_0708),
        identity: identity(),
        services: vec![
            served("a.b", Health::Healthy),
            served("payments.shop", Health::Draining),
            served("web.shop", Health::Unhealthy),
        ],
        locality: locality(),
        weight: 100,
        overlay: vec!["192.0.2.1:7000".parse().unwrap(), "[2001:db8::1]:7000".parse().unwrap()],
        release: "0.1.0".into(),
        svid_key: [5; 32],
        older_keys: Box::new([[6; 32]]),
        seq,
        attached: true,
    }
}

#[test]
fn the_size_of_a_row_on_the_wire_is_never_underestimated() {
    let empty = Row { services: Vec::new(), overlay: Vec::new(), ..row(0) };
    let full = Row {
        workload: WorkloadId(u64::MAX),
        older_keys: vec![[7; 32]; Row::MAX_OLDER_KEYS].into(),
        weight: u16::MAX,
        overlay: vec!["[ffff::ffff]:65535".parse().unwrap(); Row::MAX_OVERLAY],
        ..row(u64::MAX)
    };
    for row in [empty, row(1), full] {
        let len = codec::to_vec(&row).unwrap().len();
        assert!(len <= row.encoded_len(), "{len} bytes, estimated as {}", row.encoded_len());
    }
}
