//! Connections between the gateways of a cluster: who is alive there.

use super::conns::Frame;
use super::{Addr, World};
use crate::coverage::Sometimes;
use causeway_presence::Message;

impl World {
    pub(crate) fn sibling_opened(&mut self, conn: usize, side: usize) {
        let [at, peer] = [side, 1 - side].map(|side| self.conn(conn).ends[side].addr);
        let (now, node) = (self.now, self.gateways[peer].node);
        self.process(at).presence.handle_peer_up(now, node);
    }

    pub(crate) fn sibling_closed(&mut self, conn: usize, side: usize) {
        let [at, peer] = [side, 1 - side].map(|side| self.conn(conn).ends[side].addr);
        let (now, node) = (self.now, self.gateways[peer].node);
        // only the dialler speaks, so only he has nobody to speak to
        if side == 0 {
            self.trace(|| format!("gateway {at} lost its sibling {peer}"));
            self.process(at).presence.handle_peer_down(now, node);
        }
    }

    pub(crate) fn sibling_heard(&mut self, conn: usize, side: usize, message: Message) {
        let [at, peer] = [side, 1 - side].map(|side| self.conn(conn).ends[side].addr);
        let (now, node) = (self.now, self.gateways[peer].node);
        if matches!(message, Message::Hello { .. }) {
            self.supersede(at, peer, self.conn(conn).ends[1 - side].process);
        }
        let presence = &mut self.process(at).presence;
        let before = presence.counters().requests;
        // a fenced or unknown sibling is not believed, which is its business
        let _ = presence.handle_message(now, node, message);
        if presence.counters().requests > before {
            self.seen.note(Sometimes::PresenceRepaired);
        }
    }

    /// A sibling says which process it is: a connection of ours that leads to an older one is closed and dialled anew.
    fn supersede(&mut self, at: Addr, peer: Addr, process: u64) {
        for (conn, side) in self.open_at(at, false) {
            let other = &self.conn(conn).ends[1 - side];
            if side == 0 && other.addr == peer && other.process != process {
                self.close(conn, side, true);
            }
        }
    }

    /// Sends what the presence core has to say, on the connections that this gateway dialled.
    pub(crate) fn speak_to_siblings(&mut self, at: Addr) {
        let dialled = self.open_at(at, false).into_iter().filter(|(_, side)| *side == 0);
        for (conn, side) in dialled.collect::<Vec<_>>() {
            let node = self.gateways[self.conn(conn).ends[1].addr].node;
            while let Some(message) = self.process(at).presence.poll_transmit_to(node) {
                self.send(conn, side, Frame::Rows(message));
            }
        }
    }
}
