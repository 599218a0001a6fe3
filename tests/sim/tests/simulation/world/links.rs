//! Connections between the gateways of linked clusters: what each side exports.

use super::conns::Frame;
use super::{Addr, Peer, World};
use crate::coverage::Sometimes;
use crate::sabotage::Sabotage;
use causeway_federation::{DIGEST_INTERVAL, DigestVerdict, ExportCursor, ImportRules};
use causeway_model::{Epoch, NodeId, Revision};
use causeway_wire::link::{Exports, ExportsDigest};
use std::time::Duration;

/// How long the imports of a silent cluster stay.
const WITHDRAW_AFTER: Duration = Duration::from_secs(6);

impl World {
    /// The revision that made the link to `cluster`, as the catalog at `at` has it.
    pub(crate) fn link_established(&self, at: Addr, cluster: usize) -> Option<Revision> {
        let catalog = &self.gateways[at].process.as_ref()?.catalog;
        catalog.link_by_id(self.clusters[cluster].id).map(|link| link.established)
    }

    /// Whether both gateways hold their clusters to be linked.
    pub(crate) fn are_linked(&self, a: Addr, b: Addr) -> bool {
        let side = |at: Addr, other: Addr| {
            let cluster = self.gateways[other].cluster;
            self.link_established(at, cluster).is_some()
                && self.gateways[at]
                    .process
                    .as_ref()
                    .is_some_and(|process| process.peers.contains_key(&cluster))
        };
        side(a, b) && side(b, a)
    }

    pub(crate) fn import_rules(&self, here: usize, there: usize) -> ImportRules {
        let mut rules = ImportRules::new(self.clusters[there].clone());
        rules.withdraw_after = WITHDRAW_AFTER;
        if self.sabotage == Sabotage::TrustAnyone {
            rules.peer.trust_domain = super::chaos::FOREIGN.parse().unwrap();
        }
        if self.sabotage != Sabotage::RaiseCap {
            rules.max_imports = self.cap(here, there);
        }
        rules
    }

    fn ends(&self, conn: usize, side: usize) -> (Addr, NodeId, usize) {
        let [at, peer] = [side, 1 - side].map(|side| self.conn(conn).ends[side].addr);
        (at, self.gateways[peer].node, self.gateways[peer].cluster)
    }

    pub(crate) fn link_opened(&mut self, conn: usize, side: usize) {
        let (now, (at, node, cluster)) = (self.now, self.ends(conn, side));
        let Some(peer) = self.process(at).peers.get_mut(&cluster) else { return };
        if let Ok(have) = peer.imports.handle_open(now, node) {
            self.send(conn, side, Frame::Hello(have));
        }
    }

    pub(crate) fn link_closed(&mut self, conn: usize, side: usize) {
        let (now, (at, node, cluster)) = (self.now, self.ends(conn, side));
        let process = self.gateways[at].process.as_mut().unwrap();
        if let Some(peer) = process.peers.get_mut(&cluster) {
            let change = peer.imports.handle_closed(now, node);
            peer.verdicts.remove(&node);
            peer.learn(&change, &mut self.seen);
        }
    }

    /// Ends the connections over links that the catalog no longer has, or has anew.
    pub(crate) fn end_removed_links(&mut self, at: Addr) {
        for (conn, side) in self.open_at(at, true) {
            let cluster = self.ends(conn, side).2;
            if self.link_established(at, cluster) != Some(self.conn(conn).ends[side].established) {
                self.trace(|| format!("gateway {at} ends a connection to cluster {cluster}: no such link"));
                self.close(conn, side, true);
            }
        }
    }

    pub(crate) fn link_heard(&mut self, conn: usize, side: usize, frame: Frame) {
        let (now, (at, _, cluster)) = (self.now, self.ends(conn, side));
        let process = self.gateways[at].process.as_mut().unwrap();
        let Some(peer) = process.peers.get_mut(&cluster) else { return };
        let change = peer.imports.handle_heard(now);
        peer.learn(&change, &mut self.seen);
        match frame {
            Frame::Hello(have) => self.greeted(conn, side, have),
            Frame::Exports(exports) => self.heard_exports(conn, side, exports),
            Frame::Digest(digest) => self.heard_digest(conn, side, &digest),
            Frame::SendSnapshot => {
                if let Some(cursor) = &mut self.end(conn, side).cursor {
                    cursor.handle_send_snapshot();
                }
            }
            Frame::Have(at) => {
                if let Some(cursor) = &mut self.end(conn, side).cursor {
                    cursor.handle_have(at);
                }
            }
            Frame::Keepalive | Frame::Close | Frame::Rows(_) => {}
        }
        self.process(at).flush = true;
    }

    fn greeted(&mut self, conn: usize, side: usize, have: Option<(Epoch, Revision)>) {
        let (at, _, cluster) = self.ends(conn, side);
        let exporter = &self.process(at).peers[&cluster].exporter;
        match have.map(|have| exporter.resume(have)) {
            Some(Some(_)) => self.seen.note(Sometimes::LinkResumedByDelta),
            Some(None) => self.seen.note(Sometimes::LinkResumedBySnapshot),
            None => {}
        }
        let now = self.now;
        let end = self.end(conn, side);
        end.cursor = Some(ExportCursor::new(have));
        end.digest = now;
    }

    fn heard_exports(&mut self, conn: usize, side: usize, exports: Exports) {
        let (now, (at, node, cluster)) = (self.now, self.ends(conn, side));
        let process = self.gateways[at].process.as_mut().unwrap();
        let peer = process.peers.get_mut(&cluster).unwrap();
        match peer.imports.handle_exports(now, node, exports) {
            Ok(change) => peer.learn(&change, &mut self.seen),
            Err(error) if error.ask() => self.ask(conn, side),
            Err(_) => {}
        }
    }

    fn heard_digest(&mut self, conn: usize, side: usize, digest: &ExportsDigest) {
        if self.sabotage == Sabotage::ForgetDigest {
            return;
        }
        let (now, (at, node, cluster)) = (self.now, self.ends(conn, side));
        let process = self.gateways[at].process.as_mut().unwrap();
        let peer = process.peers.get_mut(&cluster).unwrap();
        let said = peer.imports.handle_digest(now, node, digest, true);
        if said.adopted {
            self.seen.note(Sometimes::ExportsAdopted);
        }
        peer.learn(&said.change, &mut self.seen);
        peer.verdicts.insert(node, said.verdict);
        if said.verdict == DigestVerdict::InStep && peer.spoilt.remove(&node) {
            self.seen.note(Sometimes::MismatchHealed);
        }
        if said.verdict == DigestVerdict::Ask {
            self.ask(conn, side);
        } else if said.verdict == DigestVerdict::InStep
            && (!std::mem::replace(&mut self.end(conn, side).have_said, true) || said.adopted)
        {
            self.send(conn, side, Frame::Have((digest.epoch, digest.revision)));
        }
    }

    fn ask(&mut self, conn: usize, side: usize) {
        if self.sabotage != Sabotage::ForgetSnapshot {
            self.send(conn, side, Frame::SendSnapshot);
        }
    }

    /// Says what is new on all connections to linked clusters.
    pub(crate) fn speak_over_links(&mut self, at: Addr) {
        let now = self.now;
        for (conn, side) in self.open_at(at, true) {
            let cluster = self.ends(conn, side).2;
            let end = &mut self.conns[conn].ends[side];
            let process = self.gateways[at].process.as_mut().unwrap();
            let (Some(cursor), Some(peer)) = (&mut end.cursor, process.peers.get(&cluster)) else { continue };
            let frames = peer.exporter.poll(now, cursor);
            let digest = (end.digest <= now).then(|| peer.exporter.digest());
            if digest.is_some() {
                end.digest = now + DIGEST_INTERVAL;
            }
            for mut frame in frames {
                self.spoil(conn, side, &mut frame);
                self.send(conn, side, Frame::Exports(frame));
            }
            if let Some(digest) = digest {
                self.send(conn, side, Frame::Digest(digest));
            }
        }
    }

    /// The peer at the other end of a connection, as that end sees this one.
    pub(crate) fn listener(&mut self, conn: usize, side: usize) -> Option<(&mut Peer, NodeId)> {
        let (at, node, cluster) = self.ends(conn, 1 - side);
        let peer = self.gateways[at].process.as_mut()?.peers.get_mut(&cluster)?;
        Some((peer, node))
    }
}
