//! The core: inputs, outputs, timers.

mod query;
#[cfg(test)]
mod tests;

use crate::lease::Leases;
use crate::own::OwnTable;
use crate::peer::Peer;
use crate::replica::Room;
use crate::view::View;
use crate::{Counters, Event, Incarnation, Message, MessageError, PresenceConfig, Row, RowError};
use causeway_model::{Health, NodeId, ServiceName, WorkloadId};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::time::Instant;

/// The liveness core of one gateway.
///
/// A driver calls `handle_*` as things happen, then sends what [`poll_transmit`](Self::poll_transmit) returns until it
/// returns nothing, tells others what [`poll_event`](Self::poll_event) returns, and calls
/// [`handle_timeout`](Self::handle_timeout) when the time of [`poll_timeout`](Self::poll_timeout) has come; that time may
/// change with every input. The times given must not go backwards.
///
/// Messages to one sibling should arrive in the order in which they were polled, as on one stream; whatever is lost,
/// repeated or reordered all the same is repaired within about two seconds.
#[derive(Debug)]
pub struct Presence {
    node: NodeId,
    config: PresenceConfig,
    own: OwnTable,
    leases: Leases,
    /// Local workloads whose leases ran out while their control connections stood: they count as gone, and are back when they are
    /// heard of again. A process that was stopped, or a machine that was paused, comes back like this.
    lapsed: HashMap<WorkloadId, Row>,
    peers: BTreeMap<NodeId, Peer>,
    view: View,
    counters: Counters,
    /// The latest time that was given.
    now: Instant,
    /// When leases were last extended because this process stood still.
    stalled: Option<Instant>,
    /// This gateway hears so few of its siblings that it is itself the one that is cut off.
    isolated: bool,
    /// The sibling that was served last, so that a talkative one does not starve the others.
    turn: NodeId,
}

impl Presence {
    /// The core of the gateway `node`. `incarnation` must be greater than that of every earlier process of that node.
    pub fn new(node: NodeId, incarnation: Incarnation, config: PresenceConfig, now: Instant) -> Self {
        let mut view = View::new(node);
        view.events.pace(config.service_interval, now);
        Self {
            node,
            own: OwnTable::new(incarnation, &config),
            leases: Leases::new(config.lease, now),
            lapsed: HashMap::new(),
            peers: BTreeMap::new(),
            view,
            counters: Counters::default(),
            now,
            stalled: None,
            isolated: false,
            turn: node,
            config,
        }
    }

    /// It is `now`.
    fn at(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.view.events.advance(self.now);
    }

    /// A local sidecar registered its workload over a control connection, or updated it. Its `seq` and `attached` are set
    /// here; the keys that gateways know it by already stay with it.
    ///
    /// # Errors
    /// The row breaks a limit, this gateway has as many workloads as it may, or the workload's id belongs to another
    /// identity, so that nobody takes over what is sent to a workload that he is not; nothing changes then.
    pub fn handle_attach(&mut self, now: Instant, mut row: Row) -> Result<(), RowError> {
        self.at(now);
        row.check()?;
        let (workload, limit) = (row.workload, self.config.max_rows_per_gateway);
        if self.own.get(workload).is_none() && self.own.len() >= limit {
            return Err(RowError::TooManyRows { workload, limit });
        }
        let own_differs = self.own.get(workload).is_some_and(|own| own.identity != row.identity);
        if own_differs || self.view.belongs_to_another(workload, &row.identity) {
            return Err(RowError::TakenId { workload, identity: row.identity });
        }
        // also from a gateway that is lost: of a connection of then, peers judge the key of then
        for known in self.own.get(workload).into_iter().chain(self.view.rows_of(workload)) {
            row.keep_keys_of(known);
        }
        self.lapsed.remove(&workload);
        self.leases.grant(now, workload);
        self.update(Row { attached: true, ..row });
        Ok(())
    }

    /// A probe or control traffic of a workload arrived. Constant time, unless it brings the workload back; nothing happens if it is
    /// not attached here.
    pub fn handle_seen(&mut self, now: Instant, workload: WorkloadId) {
        if !self.leases.renew(now, workload) {
            self.bring_back(now, workload);
        }
    }

    /// A workload that counted as gone although its control connection stands is heard of again.
    fn bring_back(&mut self, now: Instant, workload: WorkloadId) {
        let Some(row) = self.lapsed.remove(&workload) else { return };
        self.at(now);
        let room = self.own.len() < self.config.max_rows_per_gateway;
        if room && !self.view.belongs_to_another(workload, &row.identity) {
            self.leases.grant(now, workload);
            self.update(row);
        }
    }

    /// A local workload said goodbye: this gateway stops vouching for it at once.
    pub fn handle_goodbye(&mut self, now: Instant, workload: WorkloadId) {
        self.at(now);
        self.lapsed.remove(&workload);
        self.leases.end(workload);
        self.withdraw(workload);
        // what silent siblings said of it is older than its own word
        self.peers.values_mut().for_each(|peer| peer.drop_orphan(workload, &mut self.view));
    }

    /// The last control connection of a local workload was lost. Its row stays while its probes keep the lease.
    pub fn handle_detach(&mut self, now: Instant, workload: WorkloadId) {
        self.at(now);
        self.lapsed.remove(&workload);
        if let Some(row) = self.own.get(workload) {
            self.update(Row { attached: false, ..Row::clone(row) });
        }
    }

    /// A local workload reports its health for one service. Nothing happens if it is not attached or does not serve it.
    pub fn handle_health(
        &mut self,
        now: Instant,
        workload: WorkloadId,
        service: &ServiceName,
        health: Health,
    ) {
        self.at(now);
        self.handle_seen(now, workload);
        let Some(row) = self.own.get(workload) else { return };
        let mut row = Row::clone(row);
        if let Some(served) = row.services.iter_mut().find(|served| served.name == *service) {
            served.health = health;
            self.update(row);
        }
    }

    /// A local workload renewed its SVID: its key is `key` now. Nothing happens if it is not attached, or has that key.
    pub fn handle_renewed(&mut self, now: Instant, workload: WorkloadId, key: [u8; 32]) {
        self.at(now);
        if let Some(row) = self.own.get(workload).filter(|row| row.svid_key != key) {
            let mut row = Row::clone(row);
            row.renew(key);
            self.update(row);
        }
    }

    fn update(&mut self, mut row: Row) {
        self.view.names.share(&mut row);
        if let Some(row) = self.own.put(row) {
            self.view.put(self.node, row, true);
        }
    }

    fn withdraw(&mut self, workload: WorkloadId) {
        if self.own.remove(workload) {
            self.view.remove(self.node, workload);
        }
    }

    /// A connection to a sibling is up; also when it replaces an earlier one. Messages of a node are believed only after
    /// this.
    pub fn handle_peer_up(&mut self, now: Instant, node: NodeId) {
        self.at(now);
        if node != self.node {
            let peer = self.peers.entry(node).or_insert_with(|| Peer::new(node));
            peer.connected(now, &self.own, &self.config);
        }
    }

    /// The connection to a sibling was lost. It counts as alive until its silence has lasted too long.
    pub fn handle_peer_down(&mut self, now: Instant, node: NodeId) {
        self.at(now);
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.disconnected();
        }
    }

    /// A sibling was removed from the cluster. It is not believed any more; its rows stay for the grace of a dead gateway.
    pub fn handle_peer_removed(&mut self, now: Instant, node: NodeId) {
        self.at(now);
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.removed(now, &mut self.view);
        }
        self.peers.retain(|_, peer| !peer.is_forgotten());
    }

    /// A message of the sibling `from`, as the transport authenticated it. Whatever it says concerns only the rows of
    /// `from` itself.
    ///
    /// # Errors
    /// The message is not believed and nothing changed, except that it was counted.
    pub fn handle_message(
        &mut self,
        now: Instant,
        from: NodeId,
        message: Message,
    ) -> Result<(), MessageError> {
        self.at(now);
        let room = self.room();
        let Some(peer) = self.peers.get_mut(&from).filter(|peer| peer.is_member()) else {
            self.counters.rejected_messages += 1;
            return Err(MessageError::NotASibling { node: from });
        };
        message.check().inspect_err(|_| self.counters.rejected_messages += 1)?;
        let Some(incarnation) = speaker(&message) else {
            if let Message::SnapshotRequest { incarnation, have, full } = message {
                peer.answer(now, (incarnation, have, full), &self.own, &self.config);
            }
            return Ok(());
        };
        if peer.heard(now, incarnation, &self.config, &mut self.view) {
            let requested = peer.learn(now, message, room, &self.config, &mut self.view);
            self.counters.requests += u64::from(requested);
            self.counters.refused_rows += peer.replica.take_refused();
            self.counters.bad_rows += peer.replica.take_bad();
        } else {
            self.counters.fenced_messages += 1;
        }
        Ok(())
    }

    /// What the first row of the sibling's process that was not taken broke, once: what is beside such rows is taken, so nobody
    /// would notice them.
    pub fn take_bad_row(&mut self, node: NodeId) -> Option<RowError> {
        self.peers.get_mut(&node)?.replica.take_first_bad()
    }

    fn room(&self) -> Room {
        let held: usize = self.peers.values().map(|peer| peer.replica.len()).sum();
        let more = self.config.max_rows.saturating_sub(held);
        Room { per_gateway: self.config.max_rows_per_gateway, more }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.forgive_stall(now);
        self.at(now);
        while let Some(workload) = self.leases.expire(now) {
            self.counters.expired_leases += 1;
            if let Some(row) = self.own.get(workload).filter(|row| row.attached) {
                self.lapsed.insert(workload, Row::clone(row));
            }
            self.withdraw(workload);
            self.peers.values_mut().for_each(|peer| {
                if peer.was_silent_before(now, &self.config) {
                    peer.drop_orphan(workload, &mut self.view);
                }
            });
        }
        self.look_around(now);
        for peer in self.peers.values_mut() {
            peer.timeout(now, self.isolated, &self.config, &mut self.view);
        }
        self.peers.retain(|_, peer| !peer.is_forgotten());
    }

    /// A gateway that hears less than half of a cluster of three or more is itself the one that is cut off: it goes on with what it
    /// was told last, and calls no workload gone that others vouched for. Of two none can tell.
    fn look_around(&mut self, now: Instant) {
        let members = self.peers.values().filter(|peer| peer.is_member());
        let (all, heard) =
            members.fold((1, 1), |(all, heard), peer| (all + 1, heard + usize::from(peer.is_alive())));
        let isolated = all > 2 && 2 * heard <= all;
        if self.isolated && !isolated {
            self.peers.values_mut().for_each(|peer| peer.begin_grace(now, &self.config));
        }
        self.isolated = isolated;
    }

    /// When this process stood still (stopped, starved, its machine paused), the probes that came meanwhile wait unread.
    /// To believe in that silence would declare every workload of this gateway gone at once.
    fn forgive_stall(&mut self, now: Instant) {
        let late = self.poll_timeout().is_some_and(|due| due + self.config.stall < now);
        let lately = self.stalled.is_some_and(|stalled| now < stalled + self.config.dead_gateway_grace);
        if late && !lately {
            self.stalled = Some(now);
            self.counters.stalls += 1;
            self.leases.extend_all(now);
            self.peers.values_mut().for_each(|peer| peer.forgive_silence(now));
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; not before anything happens if nothing.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let peers =
            self.peers.values().filter_map(|peer| peer.next_timeout(self.now, &self.own, &self.config));
        peers.chain(self.leases.next()).chain(self.view.events.next()).min()
    }

    /// The next message, and the sibling to send it to. Messages are made when asked for, so a driver that cannot send
    /// should not ask; see [`poll_transmit_to`](Self::poll_transmit_to).
    pub fn poll_transmit(&mut self) -> Option<(NodeId, Message)> {
        let later = (Bound::Excluded(self.turn), Bound::Unbounded);
        for range in [later, (Bound::Unbounded, Bound::Included(self.turn))] {
            for (&node, peer) in self.peers.range_mut(range) {
                if let Some(message) = peer.poll(self.now, &self.own, &self.config) {
                    self.turn = node;
                    return Some((node, message));
                }
            }
        }
        None
    }

    /// The next message to one sibling, for a driver with a send queue for each: a sibling whose queue is full is not
    /// asked for, and later gets only the last of many changes.
    pub fn poll_transmit_to(&mut self, node: NodeId) -> Option<Message> {
        self.peers.get_mut(&node)?.poll(self.now, &self.own, &self.config)
    }

    /// The next change of the merged view: those of workloads first, then those of services.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.view.events.poll()
    }
}

/// The process that a message speaks for; nothing for a request, which names its receiver's.
fn speaker(message: &Message) -> Option<Incarnation> {
    match message {
        Message::Hello { incarnation, .. }
        | Message::Deltas { incarnation, .. }
        | Message::Digest { incarnation, .. }
        | Message::Snapshot { incarnation, .. }
        | Message::Heartbeat { incarnation, .. } => Some(*incarnation),
        Message::SnapshotRequest { .. } => None,
    }
}
