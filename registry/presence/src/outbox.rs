//! What one sibling has still to be told.
//!
//! Nothing is queued: a message is made when it is asked for, from the table as it is then. A slow sibling costs no
//! memory, and gets only the last of many changes of one row.

use crate::own::OwnTable;
use crate::replica::Replica;
use crate::{Message, PresenceConfig, Row};
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    up: bool,
    hello: bool,
    digest: bool,
    heartbeat: bool,
    /// A request for the sibling's rows; whether it asks for all.
    request: Option<bool>,
    /// The version up to which the sibling was told.
    sent: u64,
    snapshot: Option<Snapshot>,
    /// The version up to which changes are told without a pause.
    burst: u64,
    /// Not before then are later changes told, unless there are enough for a full message.
    rows_at: Option<Instant>,
    answered: Option<Instant>,
}

/// A snapshot on its way out.
#[derive(Debug)]
struct Snapshot {
    version: u64,
    rows: Vec<Arc<Row>>,
    next_row: usize,
    next_part: u32,
}

impl Outbox {
    /// A new connection: greet, and go on from now. The sibling asks for what it misses.
    pub(crate) fn open(&mut self, own: &OwnTable) {
        *self = Self { up: true, hello: true, sent: own.version(), ..Self::default() };
    }

    pub(crate) fn close(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up
    }

    pub(crate) fn queue_heartbeat(&mut self) {
        self.heartbeat = true;
    }

    pub(crate) fn queue_digest(&mut self) {
        self.digest = true;
    }

    pub(crate) fn queue_request(&mut self, full: bool) {
        self.request = Some(full || self.request == Some(true));
    }

    /// The sibling has `have` (nothing of this incarnation if 0) and asks for the rest, or for all.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        have: u64,
        full: bool,
        own: &OwnTable,
        config: &PresenceConfig,
    ) {
        let too_soon = self.answered.is_some_and(|answered| now < answered + config.request_interval);
        if self.snapshot.is_some() || too_soon || have > own.version() {
            return;
        }
        self.answered = Some(now);
        self.burst = own.version();
        if full || !own.covers(have) {
            self.start_snapshot(own);
        } else {
            self.sent = have;
        }
    }

    fn start_snapshot(&mut self, own: &OwnTable) {
        let rows = own.rows().cloned().collect();
        self.snapshot = Some(Snapshot { version: own.version(), rows, next_row: 0, next_part: 0 });
    }

    /// When changes that wait are told; nothing if none wait. Not once that time has come: they go when they are asked for.
    pub(crate) fn next(&self, now: Instant, own: &OwnTable) -> Option<Instant> {
        let waits =
            self.up && self.snapshot.is_none() && own.version() > self.sent && self.sent >= self.burst;
        self.rows_at.filter(|&at| waits && at > now)
    }

    /// The next message. Rows come before the digest and the heartbeat, so that these never point at something that is
    /// still to be sent.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        own: &OwnTable,
        replica: &Replica,
        config: &PresenceConfig,
    ) -> Option<Message> {
        if !self.up {
            return None;
        }
        let (incarnation, version, digest) = (own.incarnation, own.version(), own.digest());
        if std::mem::take(&mut self.hello) {
            return Some(Message::Hello { incarnation, version, digest });
        }
        if let Some((full, incarnation)) = self.request.take().zip(replica.incarnation()) {
            return Some(Message::SnapshotRequest { incarnation, have: replica.version(), full });
        }
        if let Some(message) = self.poll_rows(now, own, config) {
            return Some(message);
        }
        if version > self.sent {
            return None;
        }
        if std::mem::take(&mut self.digest) {
            return Some(Message::Digest { incarnation, version, digest });
        }
        std::mem::take(&mut self.heartbeat).then_some(Message::Heartbeat { incarnation, version })
    }

    fn poll_rows(&mut self, now: Instant, own: &OwnTable, config: &PresenceConfig) -> Option<Message> {
        let max_rows = config.max_rows_per_message.clamp(1, Message::MAX_ROWS);
        if self.snapshot.is_none() && !own.covers(self.sent) {
            self.start_snapshot(own);
        }
        let incarnation = own.incarnation;
        if let Some(snapshot) = &mut self.snapshot {
            let (version, part) = (snapshot.version, snapshot.next_part);
            let (rows, last) = snapshot.next(max_rows);
            if last {
                self.sent = version;
                self.snapshot = None;
            }
            return Some(Message::Snapshot { incarnation, version, part, last, rows });
        }
        let from = self.sent;
        if from >= own.version() {
            return None;
        }
        if from >= self.burst {
            let few = own.version().saturating_sub(from) < max_rows as u64;
            if few && self.rows_at.is_some_and(|at| now < at) {
                return None;
            }
            (self.burst, self.rows_at) = (own.version(), Some(now + config.delta_interval));
        }
        let (changes, to) = own.changes_after(from, max_rows);
        self.sent = to;
        Some(Message::Deltas { incarnation, from, to, changes })
    }
}

impl Snapshot {
    fn next(&mut self, max_rows: usize) -> (Vec<Arc<Row>>, bool) {
        let mut bytes = 0;
        let fits = |row: &&Arc<Row>| {
            let fits = bytes < Message::MAX_BYTES;
            bytes += row.encoded_len();
            fits
        };
        let rows: Vec<_> =
            self.rows.iter().skip(self.next_row).take(max_rows).take_while(fits).cloned().collect();
        self.next_row += rows.len();
        self.next_part = self.next_part.saturating_add(1);
        (rows, self.next_row >= self.rows.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Incarnation;
    use crate::row::tests::row;
    use causeway_model::{NodeId, WorkloadId};
    use std::time::Duration;

    fn drain(outbox: &mut Outbox, own: &OwnTable, config: &PresenceConfig) -> Vec<Message> {
        let replica = Replica::new(NodeId(2));
        let now = Instant::now();
        std::iter::from_fn(|| outbox.poll(now, own, &replica, config)).collect()
    }

    fn kinds(messages: &[Message]) -> Vec<&'static str> {
        let kind = |message: &Message| match message {
            Message::Hello { .. } => "hello",
            Message::Deltas { .. } => "deltas",
            Message::Digest { .. } => "digest",
            Message::SnapshotRequest { .. } => "request",
            Message::Snapshot { .. } => "snapshot",
            Message::Heartbeat { .. } => "heartbeat",
        };
        messages.iter().map(kind).collect()
    }

    #[test]
    fn rows_go_before_the_digest_that_sums_them_up() {
        let config = PresenceConfig { max_rows_per_message: 2, ..PresenceConfig::default() };
        let mut own = OwnTable::new(Incarnation(1), &config);
        let mut outbox = Outbox::default();
        own.put(row(1, &[]));
        assert!(drain(&mut outbox, &own, &config).is_empty());
        outbox.open(&own);
        outbox.queue_heartbeat();
        outbox.queue_digest();
        (2..=4).for_each(|w| drop(own.put(row(w, &[]))));
        let sent = drain(&mut outbox, &own, &config);
        assert_eq!(kinds(&sent), ["hello", "deltas", "deltas", "digest", "heartbeat"]);
    }

    #[test]
    fn requests_are_answered_from_the_journal_or_with_a_snapshot_and_not_too_often() {
        let config =
            PresenceConfig { max_rows_per_message: 2, max_tombstones: 1, ..PresenceConfig::default() };
        let mut own = OwnTable::new(Incarnation(1), &config);
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        (1..=5).for_each(|w| drop(own.put(row(w, &[]))));
        outbox.open(&own);
        outbox.poll(now, &own, &Replica::new(NodeId(2)), &config);
        outbox.answer(now, 2, false, &own, &config);
        assert_eq!(kinds(&drain(&mut outbox, &own, &config)), ["deltas", "deltas"]);
        outbox.answer(now + Duration::from_millis(199), 2, false, &own, &config);
        assert!(drain(&mut outbox, &own, &config).is_empty());
        own.remove(WorkloadId(1));
        own.remove(WorkloadId(2));
        outbox.answer(now + Duration::from_millis(200), 2, false, &own, &config);
        let sent = drain(&mut outbox, &own, &config);
        assert_eq!(kinds(&sent), ["snapshot", "snapshot"]);
        assert!(matches!(sent[1], Message::Snapshot { part: 1, last: true, version: 7, .. }));
        outbox.answer(now + Duration::from_millis(400), 8, false, &own, &config);
        assert!(drain(&mut outbox, &own, &config).is_empty());
    }

    #[test]
    fn a_sibling_that_fell_far_behind_gets_a_snapshot_unasked() {
        let config = PresenceConfig { max_tombstones: 1, ..PresenceConfig::default() };
        let mut own = OwnTable::new(Incarnation(1), &config);
        let mut outbox = Outbox::default();
        outbox.open(&own);
        for w in 1..=3 {
            own.put(row(w, &[]));
            own.remove(WorkloadId(w));
        }
        assert_eq!(kinds(&drain(&mut outbox, &own, &config)), ["hello", "snapshot"]);
    }

    #[test]
    fn changes_in_a_row_travel_together_and_hold_back_what_points_at_them() {
        let config = PresenceConfig { max_rows_per_message: 3, ..PresenceConfig::default() };
        let mut own = OwnTable::new(Incarnation(1), &config);
        let (mut outbox, start, replica) = (Outbox::default(), Instant::now(), Replica::new(NodeId(2)));
        outbox.open(&own);
        let poll = |outbox: &mut Outbox, own: &OwnTable, millis| {
            let now = start + Duration::from_millis(millis);
            let sent: Vec<_> = std::iter::from_fn(|| outbox.poll(now, own, &replica, &config)).collect();
            (kinds(&sent).join(" "), outbox.next(now, own).map(|at| at.duration_since(start).as_millis()))
        };
        own.put(row(1, &[]));
        assert_eq!(poll(&mut outbox, &own, 0), ("hello deltas".into(), None));
        own.put(row(2, &[]));
        outbox.queue_digest();
        outbox.queue_heartbeat();
        assert_eq!(poll(&mut outbox, &own, 1), (String::new(), Some(10)));
        own.put(row(3, &[]));
        assert_eq!(poll(&mut outbox, &own, 9), (String::new(), Some(10)));
        assert_eq!(poll(&mut outbox, &own, 10), ("deltas digest heartbeat".into(), None));
        (4..=6).for_each(|w| drop(own.put(row(w, &[]))));
        assert_eq!(poll(&mut outbox, &own, 11), ("deltas".into(), None), "a full message does not wait");
    }
}
