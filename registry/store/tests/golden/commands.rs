//! The commands of a catalog's life, each at least once, in an order in which most are carried out.

use crate::nouns::*;
use causeway_catalog::*;
use causeway_model::*;

/// Commands with the names of their files.
pub(crate) fn all() -> Vec<(&'static str, Command)> {
    let bodies = [cluster(), tokens(), services(), links(), trust(), guarded(), vips(), endings()].concat();
    let command = |(n, (name, body))| {
        (name, Command { at: 1_700_000_000 + n, by: "spiffe://iad.mesh/ns/ops/sa/admin".into(), body })
    };
    (0_u64..).zip(bodies).map(command).collect()
}

type Named = (&'static str, CommandBody);

fn cluster() -> Vec<Named> {
    let init = InitCluster {
        facts: facts("iad", 0x0a_0b0c),
        root_der: vec![0x30; 300],
        sealed_ca: vec![0x5e; 48],
        cid_key: (Epoch(1), [1; 16].into()),
        probe_key: (Epoch(1), [2; 32].into()),
        gateway: gateway(1, GatewayRole::Gateway),
    };
    let moved = GatewayFacts {
        locality: Locality { region: "us-ashburn-1".into(), zone: "AD-3".into() },
        ..gateway(2, GatewayRole::Forwarder)
    };
    vec![
        ("init-cluster", init.into()),
        ("add-gateway", AddGateway { facts: gateway(2, GatewayRole::Forwarder) }.into()),
        ("update-gateway", UpdateGateway { facts: moved }.into()),
        // refused: there is no such gateway
        ("remove-gateway", RemoveGateway { node: NodeId(u64::MAX), revoked_until: 1_700_086_400 }.into()),
        (
            "drain-gateway",
            DrainGateway { node: NodeId(2), draining: true, ready: [NodeId(1), NodeId(2)].into() }.into(),
        ),
        ("rotate-keys", rotate(2).into()),
        ("rotate-keys-cid-only", RotateKeys { probe: None, ..rotate(3) }.into()),
        ("drop-keys", DropKeys { cid: [Epoch(1), Epoch(2)].into(), probe: [Epoch(1)].into() }.into()),
    ]
}

fn rotate(epoch: u64) -> RotateKeys {
    RotateKeys { cid: Some((Epoch(epoch), [3; 16].into())), probe: Some((Epoch(epoch), [4; 32].into())) }
}

fn tokens() -> Vec<Named> {
    let services = vec![
        ServiceDeclaration { name: parsed("payments.shop"), ports: ports() },
        ServiceDeclaration { name: parsed("web.shop"), ports: PortSet::default() },
        ServiceDeclaration { name: parsed("old.shop"), ports: ports() },
    ];
    let create = |id: u64, kind| CreateToken {
        id: id.to_be_bytes().into(),
        verifier: [5; 32].into(),
        kind,
        uses: 300,
        expires_at: 1_700_086_400,
    };
    let spend = |id: u64, user| UseToken { id: id.to_be_bytes().into(), user };
    vec![
        ("create-token-workload", create(1, TokenKind::Workload { identity: identity(), services }).into()),
        ("create-token-gateway", create(2, TokenKind::Gateway { role: GatewayRole::Gateway }).into()),
        ("create-token-forwarder", create(3, TokenKind::Gateway { role: GatewayRole::Forwarder }).into()),
        ("use-token-workload", spend(1, TokenUser::Workload(WorkloadId(7))).into()),
        ("use-token-gateway", spend(2, TokenUser::Gateway(NodeId(9))).into()),
        ("revoke-token", RevokeToken { id: 3_u64.to_be_bytes().into() }.into()),
    ]
}

fn services() -> Vec<Named> {
    let export = |service, handle, to| Export { service: parsed(service), handle: ServiceHandle(handle), to };
    let clusters = |names: &[&str]| names.iter().map(|name| parsed(name)).collect();
    let some = ExportTo::Clusters(clusters(&["lhr", "phx"]));
    vec![
        ("declare-ports", DeclarePorts { service: parsed("web.shop"), ports: ports() }.into()),
        ("export-to-some", export("payments.shop", 0x1122_3344_5566_7788, some).into()),
        ("export-to-all", export("web.shop", 5, ExportTo::All).into()),
        (
            "unexport-from-some",
            Unexport { service: parsed("payments.shop"), from: Some(clusters(&["lhr"])) }.into(),
        ),
    ]
}

fn links() -> Vec<Named> {
    let invite = |id: u64, for_cluster| CreateInvite {
        id: id.to_be_bytes().into(),
        verifier: [6; 32].into(),
        for_cluster,
        expires_at: 1_700_086_400,
    };
    let establish = |invite: Option<u64>, name, id, merge_namespaces| EstablishLink {
        invite: invite.map(|id| id.to_be_bytes().into()),
        peer: facts(name, id),
        roots: vec![vec![0x30; 3], vec![0x31; 300]],
        gateways: vec![gateway(5, GatewayRole::Gateway)],
        key: [7; 32].into(),
        merge_namespaces,
    };
    let update = UpdateLinkPeer {
        cluster: parsed("phx"),
        gateways: vec![gateway(5, GatewayRole::Gateway), gateway(6, GatewayRole::Forwarder)],
        roots: vec![vec![0x32; 3]],
        peer_revision: Revision(300),
        revoked: vec![Revocation { subject: RevokedSubject::Key([7; 32]), issued_before: 1_700_000_000 }],
        paused: false,
    };
    let only = MergeRule::Only([parsed("shop"), parsed("bank")].into());
    vec![
        ("create-invite", invite(1, None).into()),
        ("create-invite-for-one", invite(2, Some(parsed("phx"))).into()),
        ("revoke-invite", RevokeInvite { id: 1_u64.to_be_bytes().into() }.into()),
        ("establish-link-invited", establish(Some(2), "phx", 2, only).into()),
        ("establish-link-merging-all", establish(None, "lhr", 3, MergeRule::All).into()),
        ("establish-link-merging-none", establish(None, "fra", 4, MergeRule::None).into()),
        ("update-link-peer", update.into()),
        ("pause-link", PauseLink { cluster: parsed("phx"), paused: true }.into()),
        ("set-link-policy-serve-last", policy(StalePolicy::ServeLast).into()),
        ("set-link-policy-fence", policy(StalePolicy::Fence).into()),
        ("set-link-policy-eject", policy(StalePolicy::EjectAfter { seconds: 70_000 }).into()),
    ]
}

fn policy(stale: StalePolicy) -> SetLinkPolicy {
    SetLinkPolicy { cluster: parsed("phx"), merge_namespaces: MergeRule::All, stale, transit: true }
}

fn trust() -> Vec<Named> {
    let root = |n: u8| vec![n; 300];
    let stage = |n: u8| StageRoot {
        root_der: root(n),
        chain: vec![vec![n; 3]],
        sealed_key: vec![0x5e; 48],
        keep_secs: 90_000,
    };
    let identity = RevokedSubject::Identity(identity());
    let revoke =
        |subject: &RevokedSubject| Revoke { subjects: [subject.clone()].into(), ends_at: 1_700_086_400 };
    vec![
        ("stage-root", stage(0x40).into()),
        ("confirm-roots", ConfirmRoots { cluster: parsed("phx"), revision: Revision(20) }.into()),
        ("activate-root", ActivateRoot { root_der: root(0x40) }.into()),
        ("drop-root", DropRoot { root_der: root(0x30) }.into()),
        ("revoke-identity", revoke(&identity).into()),
        ("revoke-key", revoke(&RevokedSubject::Key([7; 32])).into()),
        ("reinstate", Reinstate { subject: identity }.into()),
    ]
}

/// Changes of what still is what it was; of the exports they are refused.
fn guarded() -> Vec<Named> {
    let guarded = |name, was, change: Change| (name, ChangeIf { was, change }.into());
    let intent = LinkIntent {
        merge_namespaces: MergeRule::All,
        stale: StalePolicy::EjectAfter { seconds: 70_000 },
        transit: true,
        paused: true,
    };
    let export = Export { service: parsed("old.shop"), handle: ServiceHandle(7), to: ExportTo::All };
    let unexport = Unexport { service: parsed("web.shop"), from: None };
    let declare = DeclarePorts { service: parsed("web.shop"), ports: ports() };
    let resume = PauseLink { cluster: parsed("phx"), paused: false };
    vec![
        guarded("change-if-link-paused", Witness::Link(Some(intent)), resume.into()),
        guarded("change-if-link-policy", Witness::Link(None), policy(StalePolicy::Fence).into()),
        guarded("change-if-service", Witness::Service(Some(ports())), declare.into()),
        guarded("change-if-exported", Witness::Export(Some(ExportTo::All)), export.into()),
        guarded("change-if-unexported", Witness::Export(None), unexport.into()),
    ]
}

fn vips() -> Vec<Named> {
    // there is no link to the last one's cluster
    let names = ["payments.shop", "payments.shop@phx", "web.shop@nrt"].map(parsed).into();
    vec![("allocate-vips", AllocateVips { names }.into())]
}

/// What would leave nothing to take back if it came earlier.
fn endings() -> Vec<Named> {
    vec![
        ("unexport", Unexport { service: parsed("web.shop"), from: None }.into()),
        ("remove-service", RemoveService { name: parsed("old.shop") }.into()),
        ("remove-link", RemoveLink { cluster: parsed("fra") }.into()),
    ]
}
