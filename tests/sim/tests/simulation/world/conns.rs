//! Connections between gateways: reliable, in order, and gone when one direction is silent for too long.
//!
//! A loss is a delay for what follows it. What is under way when a connection ends is lost. Each end has its own view of
//! whether the connection lives, and only an end whose process works tells the other one when it closes.

use super::{Addr, World};
use crate::coverage::Sometimes;
use causeway_federation::ExportCursor;
use causeway_model::{Epoch, Revision};
use causeway_presence::Message;
use causeway_wire::link::{Exports, ExportsDigest};
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// An end that has heard nothing for this long gives up.
const IDLE: Duration = Duration::from_secs(4);
const KEEPALIVE: Duration = Duration::from_secs(1);

/// What is said on a connection. On one between siblings only the dialler speaks of rows.
pub(crate) enum Frame {
    Keepalive,
    Close,
    Rows(Message),
    Hello(Option<(Epoch, Revision)>),
    Exports(Exports),
    Digest(ExportsDigest),
    SendSnapshot,
    Have((Epoch, Revision)),
}

/// One end of a connection, as the process there sees it.
pub(crate) struct End {
    pub(crate) addr: Addr,
    pub(crate) process: u64,
    pub(crate) open: bool,
    heard: Instant,
    keepalive: Instant,
    /// What is on its way to this end, in the order in which it arrives.
    inbox: VecDeque<(Instant, Frame)>,
    /// On links: the revision of the own catalog that made the link.
    pub(crate) established: Revision,
    /// On links, once the peer has said hello: what it has been told.
    pub(crate) cursor: Option<ExportCursor>,
    pub(crate) digest: Instant,
    /// On links: the peer knows that its exports are here.
    pub(crate) have_said: bool,
}

pub(crate) struct Conn {
    pub(crate) link: bool,
    /// The dialler first.
    pub(crate) ends: [End; 2],
}

impl World {
    /// Opens a connection, if both gateways work and reach each other.
    fn open(&mut self, from: Addr, to: Addr, link: bool) {
        let works = |at: Addr| self.gateways[at].runs();
        if !works(from) || !works(to) || !self.net.are_open(from, to) {
            return;
        }
        let ends = [(from, to), (to, from)].map(|(addr, other)| End {
            addr,
            process: self.process_id(addr).unwrap_or_default(),
            open: true,
            heard: self.now,
            keepalive: self.now,
            inbox: VecDeque::new(),
            established: self.link_established(addr, self.gateways[other].cluster).unwrap_or_default(),
            cursor: None,
            digest: self.now,
            have_said: false,
        });
        self.conns.push(Conn { link, ends });
        let conn = self.conns.len() - 1;
        for side in [0, 1] {
            if link { self.link_opened(conn, side) } else { self.sibling_opened(conn, side) }
        }
    }

    /// Every gateway dials those to which it has no connection.
    pub(crate) fn dial(&mut self) {
        self.conns.retain(|conn| conn.ends.iter().any(|end| end.open));
        let connected: BTreeSet<(Addr, Addr)> = self.conns.iter().filter_map(Conn::dialled).collect();
        for from in
            (0..self.gateways.len()).filter(|at| self.gateways[*at].process.is_some()).collect::<Vec<_>>()
        {
            for to in 0..self.gateways.len() {
                let near = self.gateways[from].cluster == self.gateways[to].cluster;
                if from == to || connected.contains(&(from, to)) || self.rng.percent(20) {
                    continue;
                }
                // some pairs of linked gateways have two connections
                if near || (from < to || (from + to) % 4 == 0) && self.are_linked(from, to) {
                    self.open(from, to, !near);
                }
            }
        }
    }

    pub(crate) fn step_conns(&mut self) {
        for conn in 0..self.conns.len() {
            for side in [0, 1] {
                let (end, other) = (&self.conns[conn].ends[side], &self.conns[conn].ends[1 - side]);
                if !end.open {
                    continue;
                }
                let (at, from) = (end.addr, other.addr);
                if self.process_id(at) != Some(end.process) {
                    self.conns[conn].ends[side].open = false;
                    continue;
                }
                if self.gateways[at].paused.is_some() {
                    continue;
                }
                if self.net.is_open(from, at) {
                    self.deliver(conn, side);
                }
                self.keep_alive(conn, side);
            }
        }
    }

    fn deliver(&mut self, conn: usize, side: usize) {
        let now = self.now;
        while self.conns[conn].ends[side].open {
            let end = &mut self.conns[conn].ends[side];
            let Some((_, frame)) = end.inbox.pop_front_if(|(at, _)| *at <= now) else { return };
            end.heard = now;
            match frame {
                Frame::Keepalive => {}
                Frame::Close => self.close(conn, side, false),
                Frame::Rows(message) => self.sibling_heard(conn, side, message),
                frame => self.link_heard(conn, side, frame),
            }
        }
    }

    fn keep_alive(&mut self, conn: usize, side: usize) {
        let now = self.now;
        let end = &mut self.conns[conn].ends[side];
        if !end.open {
            return;
        }
        if end.heard + IDLE <= now {
            let (at, from) = (end.addr, self.conns[conn].ends[1 - side].addr);
            if !self.net.is_open(from, at) && self.net.is_open(at, from) {
                self.seen.note(Sometimes::OneWayPartition);
            }
            return self.close(conn, side, true);
        }
        if end.keepalive <= now {
            end.keepalive = now + KEEPALIVE;
            self.send(conn, side, Frame::Keepalive);
        }
    }

    /// Sends a frame from one end to the other.
    pub(crate) fn send(&mut self, conn: usize, side: usize, frame: Frame) {
        let [from, to] = [side, 1 - side].map(|side| self.conns[conn].ends[side].addr);
        let delay = self.net.delay(&mut self.rng, from, to);
        let inbox = &mut self.conns[conn].ends[1 - side].inbox;
        let last = inbox.back().map_or(self.now, |(at, _)| *at);
        inbox.push_back((last.max(self.now + delay), frame));
    }

    /// One end closes; `tell` the other one unless that said so itself.
    pub(crate) fn close(&mut self, conn: usize, side: usize, tell: bool) {
        if !std::mem::take(&mut self.conns[conn].ends[side].open) {
            return;
        }
        if tell {
            self.send(conn, side, Frame::Close);
        }
        if self.conns[conn].link { self.link_closed(conn, side) } else { self.sibling_closed(conn, side) }
    }

    /// The connections whose end at `at` is open, with the side of that end.
    pub(crate) fn open_at(&self, at: Addr, link: bool) -> Vec<(usize, usize)> {
        let sides = |conn: &Conn| (0..2).find(|side| conn.ends[*side].addr == at && conn.ends[*side].open);
        let numbered = self.conns.iter().enumerate().filter(|(_, conn)| conn.link == link);
        numbered.filter_map(|(number, conn)| sides(conn).map(|side| (number, side))).collect()
    }

    pub(crate) fn conn(&self, conn: usize) -> &Conn {
        &self.conns[conn]
    }

    pub(crate) fn end(&mut self, conn: usize, side: usize) -> &mut End {
        &mut self.conns[conn].ends[side]
    }

    /// The open connection from `a` to its sibling `b` that `a` dialled and both believe in.
    pub(crate) fn hears_sibling(&self, a: Addr, b: Addr) -> bool {
        let holds = |from: Addr, to: Addr| {
            self.conns.iter().any(|conn| {
                let [dialler, dialled] = &conn.ends;
                !conn.link
                    && (dialler.addr, dialled.addr) == (from, to)
                    && [dialler, dialled]
                        .iter()
                        .all(|end| end.open && self.process_id(end.addr) == Some(end.process))
            })
        };
        holds(a, b) && holds(b, a)
    }
}

impl Conn {
    /// The two gateways, if the dialler believes that it is connected.
    fn dialled(&self) -> Option<(Addr, Addr)> {
        self.ends[0].open.then(|| (self.ends[0].addr, self.ends[1].addr))
    }
}
