//! A catalog with a cluster, and short ways to write commands.

use crate::*;
use causeway_model::*;

/// When everything happens, unless a test moves the clock.
pub(super) const NOW: u64 = 1_700_000_000;

/// A catalog that is fed one command after the other.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    pub(super) catalog: Catalog,
    pub(super) at: u64,
}

impl Replica {
    /// No cluster yet.
    pub(super) fn empty() -> Self {
        Self { catalog: Catalog::new(), at: NOW }
    }

    /// Cluster `iad` with gateway 1.
    pub(super) fn new() -> Self {
        let mut replica = Self::empty();
        replica.ok(init());
        replica
    }

    pub(super) fn apply(&mut self, body: impl Into<CommandBody>) -> Applied {
        let revision = Revision(self.catalog.revision().0 + 1);
        self.catalog.apply(revision, &Command { at: self.at, by: "test".into(), body: body.into() })
    }

    /// Applies a command that must succeed.
    pub(super) fn ok(&mut self, body: impl Into<CommandBody>) -> Outcome {
        self.effect(body).0
    }

    /// Applies a command that must succeed; its answer and events.
    pub(super) fn effect(&mut self, body: impl Into<CommandBody>) -> (Outcome, Vec<Event>) {
        let applied = self.apply(body);
        let outcome = applied.outcome.unwrap_or_else(|refusal| panic!("refused: {refusal}"));
        let audited = self.catalog.audit().last().filter(|entry| entry.revision == self.catalog.revision());
        assert!(audited.is_none_or(|entry| entry.refused.is_none()));
        (outcome, applied.events)
    }

    /// Applies a command that must be refused, and checks that it changed nothing but the audit.
    pub(super) fn refuse(&mut self, body: impl Into<CommandBody>) -> Refusal {
        let before = self.catalog.clone();
        let applied = self.apply(body);
        let refusal = applied.outcome.expect_err("carried out");
        assert_eq!(applied.events, []);
        assert_eq!(self.catalog.audit().last().unwrap().refused.as_ref(), Some(&refusal));
        assert!(same_but_audit(&before, &self.catalog), "{refusal} changed something");
        refusal
    }
}

/// True when two catalogs differ at most in their revision, their audit, and when they look for something to purge.
pub(super) fn same_but_audit(before: &Catalog, after: &Catalog) -> bool {
    let mut before = before.clone();
    before.revision = after.revision;
    before.purge_at = after.purge_at;
    before.audit.clone_from(&after.audit);
    before == *after
}

pub(super) fn parsed<T: std::str::FromStr<Err = ParseError>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(super) fn ports(text: &str) -> PortSet {
    let list: Vec<ServicePort> = text.split(',').filter(|s| !s.is_empty()).map(parsed).collect();
    list.try_into().unwrap()
}

pub(super) fn facts(name: &str, id: u32) -> ClusterFacts {
    ClusterFacts {
        name: parsed(name),
        id: ClusterId::new(id).unwrap(),
        trust_domain: parsed(&format!("{name}.mesh")),
        locality: Locality { region: name.into(), zone: "AD-1".into() },
    }
}

pub(super) fn gateway(node: u64) -> GatewayFacts {
    GatewayFacts {
        node: NodeId(node),
        role: GatewayRole::Gateway,
        locality: Locality { region: "iad".into(), zone: "AD-1".into() },
        cluster_addrs: vec![parsed("10.0.0.1:7443")],
        link_addrs: vec![parsed("gw.example.org:7443")],
    }
}

pub(super) fn forwarder(node: u64) -> GatewayFacts {
    GatewayFacts { role: GatewayRole::Forwarder, ..gateway(node) }
}

pub(super) fn init() -> InitCluster {
    InitCluster {
        facts: facts("iad", 1),
        root_der: vec![1],
        sealed_ca: vec![2],
        cid_key: (Epoch(1), [1; 16].into()),
        probe_key: (Epoch(1), [1; 32].into()),
        gateway: gateway(1),
    }
}

pub(super) fn token_id(n: u64) -> TokenId {
    n.to_be_bytes().into()
}

pub(super) fn invite_id(n: u64) -> InviteId {
    n.to_be_bytes().into()
}

pub(super) fn identity(account: &str) -> SpiffeId {
    parsed(&format!("spiffe://iad.mesh/ns/shop/sa/{account}"))
}

/// A token of 2 uses that ends after a minute, for `account`, which declares one service.
pub(super) fn token(n: u64, account: &str, service: &str, declared: &str) -> CreateToken {
    let services = vec![ServiceDeclaration { name: parsed(service), ports: ports(declared) }];
    CreateToken {
        id: token_id(n),
        verifier: [0; 32].into(),
        kind: TokenKind::Workload { identity: identity(account), services },
        uses: 2,
        expires_at: NOW + 60,
    }
}

pub(super) fn gateway_token(n: u64) -> CreateToken {
    CreateToken { kind: TokenKind::Gateway { role: GatewayRole::Gateway }, ..token(n, "x", "x.x", "") }
}

pub(super) fn use_token(n: u64) -> UseToken {
    UseToken { id: token_id(n), user: TokenUser::Workload(WorkloadId(7)) }
}

/// As [`use_token`], by the workload with that id.
pub(super) fn use_token_by(n: u64, workload: u64) -> UseToken {
    UseToken { user: TokenUser::Workload(WorkloadId(workload)), ..use_token(n) }
}

pub(super) fn declare(service: &str, text: &str) -> DeclarePorts {
    DeclarePorts { service: parsed(service), ports: ports(text) }
}

pub(super) fn clusters(names: &[&str]) -> ExportTo {
    ExportTo::Clusters(names.iter().map(|name| parsed(name)).collect())
}

pub(super) fn export(service: &str, handle: u64, to: ExportTo) -> Export {
    Export { service: parsed(service), handle: ServiceHandle(handle), to }
}

pub(super) fn unexport(service: &str, from: Option<&[&str]>) -> Unexport {
    Unexport {
        service: parsed(service),
        from: from.map(|names| names.iter().map(|name| parsed(name)).collect()),
    }
}

pub(super) fn invite(n: u64, for_cluster: Option<&str>) -> CreateInvite {
    CreateInvite {
        id: invite_id(n),
        verifier: [0; 32].into(),
        for_cluster: for_cluster.map(parsed),
        expires_at: NOW + 60,
    }
}

pub(super) fn link(invite: Option<u64>, peer: ClusterFacts) -> EstablishLink {
    EstablishLink {
        invite: invite.map(invite_id),
        peer,
        roots: vec![vec![9]],
        gateways: vec![gateway(5)],
        key: [3; 32].into(),
        merge_namespaces: MergeRule::None,
    }
}

pub(super) fn update_peer(cluster: &str, peer_revision: u64) -> UpdateLinkPeer {
    UpdateLinkPeer {
        cluster: parsed(cluster),
        gateways: vec![gateway(5), gateway(6)],
        roots: vec![vec![9], vec![10]],
        peer_revision: Revision(peer_revision),
        revoked: Vec::new(),
        paused: false,
    }
}

pub(super) fn rotate(cid: Option<u64>, probe: Option<u64>) -> RotateKeys {
    RotateKeys {
        cid: cid.map(|epoch| (Epoch(epoch), [7; 16].into())),
        probe: probe.map(|epoch| (Epoch(epoch), [7; 32].into())),
    }
}

pub(super) fn drop_keys(cid: &[u64], probe: &[u64]) -> DropKeys {
    let epochs = |list: &[u64]| list.iter().copied().map(Epoch).collect();
    DropKeys { cid: epochs(cid), probe: epochs(probe) }
}

/// Announces the root `n`, with a signer below it.
pub(super) fn stage(n: u8) -> StageRoot {
    StageRoot { root_der: vec![n], chain: vec![vec![n, 1]], sealed_key: vec![n, n], keep_secs: 60 }
}

pub(super) fn revoke(account: &str) -> Revoke {
    Revoke { subjects: [RevokedSubject::Identity(identity(account))].into(), ends_at: NOW + 100 }
}

pub(super) fn policy(cluster: &str) -> SetLinkPolicy {
    SetLinkPolicy {
        cluster: parsed(cluster),
        merge_namespaces: MergeRule::All,
        stale: StalePolicy::ServeLast,
        transit: false,
    }
}

pub(super) fn remove_gateway(node: u64) -> RemoveGateway {
    RemoveGateway { node: NodeId(node), revoked_until: NOW + 100_000 }
}

/// Proposed by somebody to whom gateways 1 to 4 are ready.
pub(super) fn drain(node: u64, draining: bool) -> DrainGateway {
    DrainGateway { node: NodeId(node), draining, ready: (1..=4).map(NodeId).collect() }
}
