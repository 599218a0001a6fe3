//! `causeway-ctl/1`.

use crate::messages::Examples;
use crate::nouns::*;
use causeway_model::{Health, NodeId, Revision, Vip, WorkloadId};
use causeway_wire::ctl::*;
use causeway_wire::view::{Offer, ServiceView};

pub(crate) fn to_gateway() -> Examples<ToGateway> {
    Examples::of("ctl.to-gateway")
        .with("hello", Hello { version: version(), workload: None })
        .with("hello-again", Hello { version: version(), workload: Some(WorkloadId(0x0102_0304_0506_0708)) })
        .with("join", Join { request: 1, token: [1; 8], proof: [2; 32], csr: vec![0x30, 0x82] })
        .with("renew", Renew { request: 2, csr: vec![0x30; 251] })
        .with("attach", Attach { request: 70_000 })
        .with("register", register())
        .with("report-health", ReportHealth { service: parsed("a.b"), health: Health::Unhealthy })
        .with("subscribe", Subscribe { services: vec![parsed("a.b"), parsed("payments.shop")] })
        .with("watch-instances", WatchInstances { instances: instances() })
        .with("goodbye", Goodbye {})
        .with("trust", TrustReport { bundles: Revision(300), root: [7; 8] })
        .with("ask-vip", AskVip { request: 5, name: parsed("payments.shop") })
        .with("ask-vip-pinned", AskVip { request: 6, name: parsed("payments.shop@phx") })
        .with("find-vip", FindVip { request: 7, vip: vip() })
}

fn vip() -> Vip {
    Vip::new(0x73_325f).unwrap()
}

fn register() -> Register {
    let served = |name, health| ServedService { name: parsed(name), ports: ports(), health };
    Register {
        request: 4,
        services: vec![served("a.b", Health::Healthy), served("payments.shop", Health::Draining)],
        locality: Some(locality("AD-1")),
        weight: 1000,
        overlay: vec!["192.0.2.1:7000".parse().unwrap(), "[2001:db8::1]:7000".parse().unwrap()],
    }
}

pub(crate) fn to_sidecar() -> Examples<ToSidecar> {
    let chain = vec![vec![0x30; 3], vec![0x31; 300]];
    Examples::of("ctl.to-sidecar")
        .with("welcome", welcome())
        .with("issued", Issued { request: 1, chain, bundle: bundle("iad.mesh") })
        .with("attached", attached())
        .with("registered", Registered { request: 4 })
        .with("refused", refusal())
        .with("gateways", Gateways { gateways: gateways() })
        .with("bundle", Bundle { bundle: bundle("iad.mesh") })
        .with(
            "bundles",
            Bundles { revision: Revision(5), domains: vec![parsed("iad.mesh"), parsed("phx.mesh")] },
        )
        .with("service", service())
        .with(
            "exported-to",
            ExportedTo {
                revision: Revision(u64::MAX),
                services: vec![(parsed("a.b"), vec![parsed("phx.mesh"), parsed("lhr.mesh")])],
            },
        )
        .with("instances-gone", InstancesGone { instances: instances() })
        .with("keys", Keys { cid_keys: cid_keys(), probe_key: probe_key() })
        .with("draining", Draining {})
        .with("renew-now", RenewNow { root: [7; 8], within_ms: 70_000 })
        .with("vip-is", VipIs { request: 5, name: parsed("payments.shop"), vip: vip() })
}

fn welcome() -> Welcome {
    Welcome { version: version(), cluster: facts("iad", 1), node: NodeId(2), unix_time: 1_800_000_000 }
}

fn attached() -> Attached {
    Attached {
        request: 3,
        workload: WorkloadId(0x0102_0304_0506_0708),
        cid_keys: cid_keys(),
        probe_key: probe_key(),
        gateways: gateways(),
    }
}

fn service() -> ServiceView {
    let own = Offer {
        cluster: facts("iad", 1),
        handle: None,
        ports: ports(),
        identities: vec![identity()],
        healthy: 1,
        total: 3,
        stale_for: None,
        endpoints: endpoints(),
    };
    let imported = Offer {
        cluster: facts("phx", 2),
        handle: Some(causeway_model::ServiceHandle(0x1122_3344_5566_7788)),
        stale_for: Some(90),
        endpoints: Vec::new(),
        ..own.clone()
    };
    ServiceView { name: parsed("payments.shop"), offers: vec![own, imported] }
}
