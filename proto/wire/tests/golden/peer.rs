//! `causeway-raft/1`. What calls and presence carry is the registry's, which has golden files of its own.

use crate::messages::Examples;
use crate::nouns::*;
use causeway_model::{GatewayRole, NodeId, Revision};
use causeway_wire::peer::*;

pub(crate) fn messages() -> Examples<PeerMessage> {
    let call = |method| Call { method, body: vec![1, 2, 3] };
    Examples::of("peer")
        .with("call-append", call(Method::Append))
        .with("call-vote", call(Method::Vote))
        .with("call-snapshot", call(Method::Snapshot))
        .with("call-propose", call(Method::Propose))
        .with("call-add-learner", call(Method::AddLearner))
        .with("call-read-index", call(Method::ReadIndex))
        .with("call-elect", call(Method::Elect))
        .with("reply", Reply { body: vec![4; 300] })
        .with("refused", refusal())
        .with("hello", PeerHello { version: version(), node: NodeId(2), commands: vec![1, 2, 300] })
        .with("presence", Presence { body: vec![5, 6] })
        .with("join-gateway", join(GatewayRole::Gateway))
        .with("join-forwarder", join(GatewayRole::Forwarder))
        .with("joined-gateway", joined(Some("0a".repeat(32))))
        .with("joined-forwarder", joined(None))
        .with("renew", RenewGateway { csr: vec![0x30, 0x82] })
        .with("renewed", GatewayRenewed { chain: vec![vec![0x30; 3]] })
        .with("update-facts", UpdateFacts { facts: gateways().remove(0) })
        .with("facts-updated", FactsUpdated {})
        .with("status", status())
        .with("pair-reports", crate::link::pair_reports())
        .with("reaches", Reaches { clusters: vec![crate::nouns::cluster_id(3)] })
}

fn status() -> GatewayStatus {
    GatewayStatus {
        release: "0.1.0".to_owned(),
        revision: Revision(300),
        root: [7; 8],
        ready: true,
        draining: true,
        attached: 70_000,
        packets: u64::MAX,
        up_secs: 5,
        least_bundle: Some(Revision(299)),
        roots: vec![[7; 8], [8; 8]],
        admin: Some(parsed("10.0.0.2:7444")),
        unix_time: 1_700_000_000,
    }
}

fn join(role: GatewayRole) -> JoinGateway {
    JoinGateway {
        token: [1; 8],
        proof: [2; 32],
        csr: vec![0x30, 0x82],
        role,
        locality: locality("AD-2"),
        cluster_addrs: vec![parsed("10.0.0.2:7443")],
        link_addrs: vec![parsed("gw.example.org:7443"), parsed("[2001:db8::2]:7443")],
    }
}

fn joined(seal_key: Option<String>) -> GatewayJoined {
    GatewayJoined {
        cluster: facts("iad", 1),
        node: NodeId(2),
        chain: vec![vec![0x30; 3]],
        bundle: bundle("iad.mesh"),
        gateways: gateways(),
        seal_key,
    }
}
