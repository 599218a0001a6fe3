//! A sibling gateway: whether it lives, the copy of its table, and what it has still to be told.

use crate::outbox::Outbox;
use crate::own::OwnTable;
use crate::replica::{Part, Replica, Room, Verdict};
use crate::view::View;
use crate::{Incarnation, Message, PresenceConfig};
use causeway_model::{NodeId, WorkloadId};
use std::time::Instant;

/// A sibling as this gateway sees it, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The sibling.
    pub node: NodeId,
    /// Whether a connection to it is up.
    pub connected: bool,
    /// Whether it was heard of lately.
    pub alive: bool,
    /// Its process, if it was heard of.
    pub incarnation: Option<Incarnation>,
    /// The version of the copy of its table.
    pub version: u64,
    /// How many of its rows are held.
    pub rows: usize,
}

#[derive(Clone, Copy, Debug)]
enum Life {
    /// Nothing was heard since it was forgotten, or ever; no rows.
    Unheard,
    Alive {
        heard: Instant,
    },
    Dead {
        since: Instant,
    },
}

/// When something is to be sent again.
#[derive(Clone, Copy, Debug)]
struct Beats {
    heartbeat: Instant,
    digest: Instant,
}

#[derive(Debug)]
pub(crate) struct Peer {
    node: NodeId,
    /// False once it was removed from the cluster: it is not believed any more, and forgotten after the grace.
    member: bool,
    life: Life,
    beats: Option<Beats>,
    outbox: Outbox,
    pub(crate) replica: Replica,
    /// Its rows stay so long although it is dead, because this gateway is the one that is cut off.
    held_until: Option<Instant>,
    requested: Option<Instant>,
    /// Requests for the whole table since a digest was last equal.
    full_requests: u32,
}

impl Peer {
    pub(crate) fn new(node: NodeId) -> Self {
        Self {
            node,
            member: true,
            life: Life::Unheard,
            beats: None,
            outbox: Outbox::default(),
            replica: Replica::new(node),
            held_until: None,
            requested: None,
            full_requests: 0,
        }
    }

    pub(crate) fn is_member(&self) -> bool {
        self.member
    }

    /// Whether nothing of it is left to remember.
    pub(crate) fn is_forgotten(&self) -> bool {
        !self.member && matches!(self.life, Life::Unheard)
    }

    pub(crate) fn status(&self) -> PeerStatus {
        PeerStatus {
            node: self.node,
            connected: self.outbox.is_up(),
            alive: matches!(self.life, Life::Alive { .. }),
            incarnation: self.replica.incarnation(),
            version: self.replica.version(),
            rows: self.replica.len(),
        }
    }

    pub(crate) fn connected(&mut self, now: Instant, own: &OwnTable, config: &PresenceConfig) {
        self.member = true;
        self.outbox.open(own);
        self.replica.abandon_staging();
        self.requested = None;
        self.beats = Some(Beats { heartbeat: now + config.heartbeat, digest: now + config.digest_interval });
    }

    pub(crate) fn disconnected(&mut self) {
        self.outbox.close();
        self.beats = None;
    }

    pub(crate) fn removed(&mut self, now: Instant, view: &mut View) {
        self.disconnected();
        self.member = false;
        if let Life::Alive { .. } = self.life {
            self.die(now, view);
        }
    }

    fn die(&mut self, since: Instant, view: &mut View) {
        self.life = Life::Dead { since };
        self.replica.set_alive(false, view);
    }

    /// Whether it was heard of lately.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.life, Life::Alive { .. })
    }

    /// This gateway hears most of its siblings again: those that are not heard yet have their grace from now on.
    pub(crate) fn begin_grace(&mut self, now: Instant, config: &PresenceConfig) {
        if let Life::Dead { .. } = self.life {
            self.held_until = Some(now + config.dead_gateway_grace);
        }
    }

    /// Until when the rows of a gateway that died at `since` stay.
    fn stays_until(&self, since: Instant, config: &PresenceConfig) -> Instant {
        let grace = since + config.dead_gateway_grace;
        self.held_until.map_or(grace, |held| held.max(grace))
    }

    /// This process stood still, so the silence may have been its own.
    pub(crate) fn forgive_silence(&mut self, now: Instant) {
        if let Life::Alive { heard } = &mut self.life {
            *heard = now;
        }
    }

    /// A message of `incarnation` came; returns false if a newer one fences it.
    pub(crate) fn heard(
        &mut self,
        now: Instant,
        said: Incarnation,
        config: &PresenceConfig,
        view: &mut View,
    ) -> bool {
        match self.replica.incarnation() {
            Some(known) if said < known => return false,
            Some(known) if said == known => {}
            _ => {
                let since = if let Life::Dead { since } = self.life { since } else { now };
                self.replica.fence(said, since + config.dead_gateway_grace, view);
                self.requested = None;
                self.full_requests = 0;
            }
        }
        self.life = Life::Alive { heard: now };
        if self.held_until.take().is_some() {
            // it says everything again, and what it does not say has its grace
            self.replica.release(now + config.dead_gateway_grace);
        }
        self.replica.set_alive(true, view);
        true
    }

    /// What a message of the current incarnation says of its sender's table; returns whether rows were asked for.
    pub(crate) fn learn(
        &mut self,
        now: Instant,
        message: Message,
        room: Room,
        config: &PresenceConfig,
        view: &mut View,
    ) -> bool {
        let verdict = match message {
            Message::Hello { version, digest, .. } | Message::Digest { version, digest, .. } => {
                self.replica.compare(version, Some(digest))
            }
            Message::Heartbeat { version, .. } => self.replica.compare(version, None),
            Message::Deltas { from, to, changes, .. } => self.replica.apply((from, to), changes, room, view),
            Message::Snapshot { version, part, last, rows, .. } => {
                self.replica.stage(now, Part { version, number: part, last, rows }, room, view);
                Verdict::Fine
            }
            Message::SnapshotRequest { .. } => Verdict::Fine,
        };
        match verdict {
            Verdict::Fine => false,
            Verdict::Equal => {
                self.full_requests = 0;
                false
            }
            Verdict::Behind => self.request(now, false, config),
            Verdict::Different => self.request(now, true, config),
        }
    }

    /// Asks for what is missing, unless it is on its way. Asking for everything backs off, so that a copy that can never
    /// be equal (a limit was reached, the sibling lies) does not cost a whole table every few seconds.
    fn request(&mut self, now: Instant, full: bool, config: &PresenceConfig) -> bool {
        const MOST_DOUBLINGS: u32 = 7;
        let doublings = if full { self.full_requests.min(MOST_DOUBLINGS) } else { 0 };
        let interval = config.request_interval * (1 << doublings);
        let too_soon = self.requested.is_some_and(|requested| now < requested + interval);
        if !self.outbox.is_up() || too_soon || self.replica.is_staging(now) {
            return false;
        }
        self.requested = Some(now);
        self.full_requests += u32::from(full);
        self.outbox.queue_request(full);
        true
    }

    /// The sibling asks for rows: it has a version of the table of an incarnation, and wants the rest or all.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        asked: (Incarnation, u64, bool),
        own: &OwnTable,
        config: &PresenceConfig,
    ) {
        let (incarnation, have, full) = asked;
        // what it has of another process is worth nothing
        let have = if incarnation == own.incarnation { have } else { 0 };
        if self.outbox.is_up() {
            self.outbox.answer(now, have, full, own, config);
        }
    }

    pub(crate) fn poll(&mut self, now: Instant, own: &OwnTable, config: &PresenceConfig) -> Option<Message> {
        self.outbox.poll(now, own, &self.replica, config)
    }

    /// Whether the sibling fell silent a whole lease before a workload whose lease runs out `now`: then what it said of that one is the
    /// older word. If both fell silent together, this gateway may be the one that is cut off.
    pub(crate) fn was_silent_before(&self, now: Instant, config: &PresenceConfig) -> bool {
        matches!(self.life, Life::Dead { since } if since + config.lease < now)
    }

    /// `workload` is gone by a newer word: what is still held of what a silent or older sibling said of it goes.
    pub(crate) fn drop_orphan(&mut self, workload: WorkloadId, view: &mut View) {
        self.replica.drop_orphan(workload, view);
    }

    /// Time has passed. `isolated`: this gateway hears so few of its siblings that it is itself the one that is cut off.
    pub(crate) fn timeout(&mut self, now: Instant, isolated: bool, config: &PresenceConfig, view: &mut View) {
        if let Some(beats) = &mut self.beats {
            if beats.heartbeat <= now {
                beats.heartbeat = now + config.heartbeat;
                self.outbox.queue_heartbeat();
            }
            if beats.digest <= now {
                beats.digest = now + config.digest_interval;
                self.outbox.queue_digest();
            }
        }
        if let Life::Alive { heard } = self.life
            && heard + config.gateway_silence <= now
        {
            self.die(heard + config.gateway_silence, view);
        }
        if let Life::Dead { since } = self.life
            && self.stays_until(since, config) <= now
        {
            if isolated && self.member {
                let until = now + config.dead_gateway_grace;
                self.held_until = Some(until);
                // a moment longer than the next look: they are not to go in between
                self.replica.hold(until + config.dead_gateway_grace, view);
            } else {
                self.replica.clear(view);
                self.held_until = None;
                self.life = Life::Unheard;
            }
        }
        if self.replica.next_orphan().is_some_and(|until| until <= now) {
            self.replica.drop_orphans(now, view);
        }
    }

    pub(crate) fn next_timeout(
        &self,
        now: Instant,
        own: &OwnTable,
        config: &PresenceConfig,
    ) -> Option<Instant> {
        let life = match self.life {
            Life::Unheard => None,
            Life::Alive { heard } => Some(heard + config.gateway_silence),
            Life::Dead { since } => Some(self.stays_until(since, config)),
        };
        let beat = self.beats.map(|beats| beats.heartbeat.min(beats.digest));
        [life, beat, self.replica.next_orphan(), self.outbox.next(now, own)].into_iter().flatten().min()
    }
}
