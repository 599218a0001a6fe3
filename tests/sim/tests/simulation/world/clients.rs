//! Clients who write: whatever operators and sidecars ask of a registry.

use super::{Addr, Arrival, World, facts};
use crate::coverage::Sometimes;
use crate::oracle::{Known, WriteId};
use causeway_catalog::{
    Command, CommandBody, CreateInvite, DeclarePorts, EstablishLink, Export, ExportTo, Refusal, RemoveLink,
    RemoveService, RevokeToken, RotateKeys, TokenUser, Unexport, UpdateLinkPeer, UseToken,
};
use causeway_model::{Epoch, Revision, ServiceName, WorkloadId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

impl World {
    /// A client of `cluster` asks any gateway for something.
    pub(crate) fn write(&mut self, cluster: usize, body: impl Into<CommandBody>) -> Option<WriteId> {
        let works: Vec<Addr> = self.members(cluster).filter(|at| self.gateways[*at].runs()).collect();
        let at = self.rng.pick(&works)?;
        let (clock, until) = (self.wall_secs(at), self.now + PATIENCE);
        let write = self.oracle.asked(cluster, clock, body, until);
        self.trace(|| format!("write {write} at gateway {at}: {:?}", self.oracle.writes[write].command.body));
        self.later(Duration::from_millis(1), Arrival::Proposed { write, at });
        Some(write)
    }

    pub(crate) fn answered(&mut self, write: WriteId, revision: Revision, _refused: Option<Refusal>) {
        // an answer that comes too late tells the client all the same
        let checked = self.oracle.acknowledged(write, revision);
        self.settle(checked);
    }

    pub(crate) fn give_up_writes(&mut self) {
        let now = self.now;
        for write in self.oracle.writes.iter_mut().rev().take(100) {
            if matches!(write.known, Known::Waiting { until } if until <= now) {
                write.known = Known::Unknown;
                self.seen.note(Sometimes::WriteUnknown);
            }
        }
    }

    /// A command is applied of which its client may have given up hope.
    pub(crate) fn note_applied_late(&mut self, command: &Arc<Command>) {
        let number = command.by.strip_prefix("client/").and_then(|number| number.parse::<usize>().ok());
        if number.is_some_and(|number| self.oracle.writes[number].known == Known::Unknown) {
            self.seen.note(Sometimes::UnknownWriteApplied);
        }
    }

    /// Whether a client still waits for an answer.
    pub(crate) fn is_waiting(&self) -> bool {
        self.oracle.writes.iter().rev().take(100).any(|write| matches!(write.known, Known::Waiting { .. }))
    }

    /// Something that somebody may ask for at any time.
    pub(crate) fn write_something(&mut self) {
        let cluster = self.rng.index(self.clusters.len());
        let body = match self.rng.below(100) {
            0..20 => self.some_token(cluster),
            20..28 => RemoveService { name: self.some_service() }.into(),
            28..56 => self.some_export(cluster),
            56..84 => self.some_unexport(),
            84..88 => DeclarePorts { service: self.some_service(), ports: facts::ports() }.into(),
            88..96 => self.some_use_of_a_token(cluster),
            96 => self.some_keys(cluster),
            97 => self.some_invite(),
            _ => self.some_facts(cluster),
        };
        self.write(cluster, body);
    }

    fn some_service(&mut self) -> ServiceName {
        facts::service(self.rng.below(facts::SERVICES))
    }

    fn some_others(&mut self) -> BTreeSet<causeway_model::ClusterName> {
        (0..2).map(|_| facts::name(self.rng.index(self.clusters.len()))).collect()
    }

    fn some_token(&mut self, cluster: usize) -> CommandBody {
        let (number, service) = (self.number() + 1000, self.rng.below(facts::SERVICES));
        // some are dead within the run, and some on arrival where a clock is wrong
        let life = self.rng.below(400);
        let expires_at = self.wall_secs(cluster * super::PER_CLUSTER) + life;
        facts::token(cluster, number, service, expires_at).into()
    }

    fn some_use_of_a_token(&mut self, cluster: usize) -> CommandBody {
        let tokens: Vec<_> = self.oracle.clusters[cluster].reference.tokens().map(|token| token.id).collect();
        let id = self.rng.pick(&tokens).unwrap_or([0; 8].into());
        if self.rng.percent(30) {
            return RevokeToken { id }.into();
        }
        UseToken { id, user: TokenUser::Workload(WorkloadId(self.rng.below(20))) }.into()
    }

    fn some_export(&mut self, cluster: usize) -> CommandBody {
        let service = self.some_service();
        let to = if self.rng.percent(60) { ExportTo::All } else { ExportTo::Clusters(self.some_others()) };
        let handle = facts::handle(cluster, 100 + self.rng.below(1 << 30));
        Export { service, handle, to }.into()
    }

    fn some_unexport(&mut self) -> CommandBody {
        let from = self.rng.percent(30).then(|| self.some_others());
        Unexport { service: self.some_service(), from }.into()
    }

    fn some_keys(&mut self, cluster: usize) -> CommandBody {
        let state = self.oracle.clusters[cluster].reference.cluster();
        let newest = state.and_then(|state| state.newest_cid_key()).map_or(0, |(epoch, _)| epoch.0);
        RotateKeys { cid: Some((Epoch(newest + 1), [7; 16].into())), probe: None }.into()
    }

    fn some_invite(&mut self) -> CommandBody {
        let expires_at = self.wall_secs(0) + self.rng.below(400);
        let id = self.number().to_be_bytes().into();
        CreateInvite { id, verifier: [0; 32].into(), for_cluster: None, expires_at }.into()
    }

    fn some_facts(&mut self, cluster: usize) -> CommandBody {
        let peer = self.rng.index(self.clusters.len());
        let EstablishLink { gateways, roots, .. } = facts::link(peer);
        let link = self.oracle.clusters[cluster].reference.link(&facts::name(peer));
        let peer_revision = Revision(link.map_or(0, |link| link.peer_revision.0) + self.rng.below(3));
        let (cluster, revoked, paused) = (facts::name(peer), Vec::new(), false);
        UpdateLinkPeer { cluster, gateways, roots, peer_revision, revoked, paused }.into()
    }

    /// The link between two clusters is removed on both sides, or made on both.
    pub(crate) fn change_link(&mut self, a: usize, b: usize) {
        let linked = self.oracle.clusters[a].reference.link(&facts::name(b)).is_some();
        for (here, there) in [(a, b), (b, a)] {
            self.set_link(here, there, !linked);
        }
    }

    pub(crate) fn set_link(&mut self, here: usize, there: usize, linked: bool) {
        if linked {
            self.write(here, facts::link(there));
        } else {
            self.seen.note(Sometimes::LinkRemoved);
            self.write(here, RemoveLink { cluster: facts::name(there) });
        }
    }
}
