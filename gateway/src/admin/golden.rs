//! The JSON of every type of the API, as scripts and dashboards rely on it.

use super::api::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// `value` is written as `expected`, and `expected` is read as something that is written so again.
fn golden<T: Serialize + DeserializeOwned>(value: &T, expected: &Value) {
    assert_eq!(serde_json::to_value(value).unwrap(), *expected);
    let read: T = serde_json::from_value(expected.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), *expected);
}

fn service() -> (Service, Value) {
    let endpoint = Endpoint {
        workload: "0000000000000005".into(),
        region: "us-ashburn-1".into(),
        zone: "AD-1".into(),
        health: "healthy".into(),
        weight: 100,
    };
    let offer = Offer {
        cluster: "iad".into(),
        region: "us-ashburn-1".into(),
        zones: vec!["AD-1".into()],
        ports: vec!["80/http".into()],
        healthy: 1,
        total: 2,
        origin: "local".into(),
        exported_to: vec!["*".into()],
        identities: vec!["spiffe://iad.mesh/ns/shop/sa/payments".into()],
        stale_for: None,
        endpoints: vec![endpoint],
    };
    let expected = json!({
        "name": "payments.shop",
        "offers": [{
            "cluster": "iad", "region": "us-ashburn-1", "zones": ["AD-1"], "ports": ["80/http"], "healthy": 1, "total": 2,
            "origin": "local", "exported_to": ["*"], "identities": ["spiffe://iad.mesh/ns/shop/sa/payments"],
            "stale_for": null,
            "endpoints": [{
                "workload": "0000000000000005", "region": "us-ashburn-1", "zone": "AD-1", "health": "healthy", "weight": 100
            }],
        }],
    });
    (Service { name: "payments.shop".into(), offers: vec![offer] }, expected)
}

#[test]
fn services() {
    let (service, expected) = service();
    golden(&service, &expected);
    let page = ServicePage {
        node: "0000000000000001".into(),
        revision: 7,
        took_us: 900,
        looked_at: 101,
        matched: None,
        services: vec![service.clone()],
        next: Some("payments.shop".into()),
    };
    let written = json!({
        "node": "0000000000000001", "revision": 7, "took_us": 900, "looked_at": 101, "matched": null, "services": [expected],
        "next": "payments.shop",
    });
    golden(&page, &written);
    let query = ServiceQuery {
        name: Some("a*.b".into()),
        health: Some(HealthIs::Unhealthy),
        origin: Some(OfferOrigin::Imported),
        sort: SortBy::Stale,
        limit: Some(5),
        watch: true,
        ..ServiceQuery::default()
    };
    let written = json!({
        "name": "a*.b", "namespace": null, "region": null, "zone": null, "cluster": null, "health": "unhealthy", "stale": false,
        "origin": "imported", "port": null, "sort": "stale", "limit": 5, "after": null, "watch": true, "resume": null,
        "anew": false,
    });
    golden(&query, &written);
    assert!(!serde_json::from_value::<ServiceQuery>(json!({})).unwrap().watch);
}

#[test]
fn service_events() {
    let (service, expected) = service();
    golden(&ServiceEvent::Set { service }, &json!({"type": "set", "service": expected}));
    golden(&ServiceEvent::Removed { name: "a.b".into() }, &json!({"type": "removed", "name": "a.b"}));
    golden(&ServiceEvent::Synced { revision: 7 }, &json!({"type": "synced", "revision": 7}));
    let node = || "0000000000000001".to_owned();
    golden(
        &ServiceEvent::Snapshot { node: node(), revision: 7 },
        &json!({"type": "snapshot", "node": node(), "revision": 7}),
    );
    golden(
        &ServiceEvent::Resumed { node: node(), revision: 7 },
        &json!({"type": "resumed", "node": node(), "revision": 7}),
    );
    golden(
        &ServiceEvent::Cursor { revision: 7, cursor: "7.1.2.3".into() },
        &json!({"type": "cursor", "revision": 7, "cursor": "7.1.2.3"}),
    );
}

#[test]
fn a_service_in_detail() {
    let (service, mut expected) = service();
    let offers: Vec<OfferDetail> = service
        .offers
        .into_iter()
        .map(|offer| OfferDetail {
            offer,
            link: Some(ServiceLink { state: "stale".into(), stale_for: Some(9), established_at: 1 }),
            gateways: vec![PathGateway {
                node: "03".into(),
                addr: Some("192.0.2.1:7443".into()),
                answers: true,
                rtt_us: None,
            }],
        })
        .collect();
    let mut offer = expected["offers"][0].take();
    offer["link"] = json!({"state": "stale", "stale_for": 9, "established_at": 1});
    offer["gateways"] = json!([{"node": "03", "addr": "192.0.2.1:7443", "answers": true, "rtt_us": null}]);
    let left_out = LeftOut { cluster: "fra".into(), reason: "missing-port".into(), why: "no".into() };
    let detail = ServiceDetail {
        name: service.name,
        node: "01".into(),
        revision: 7,
        took_us: 900,
        vips: vec![ServiceVip {
            name: "payments.shop@phx".into(),
            v4: "240.1.2.3".parse().unwrap(),
            v6: "fd9c:43a6:77c1::1:203".parse().unwrap(),
        }],
        offers,
        left_out: vec![left_out],
    };
    let written = json!({
        "name": "payments.shop", "node": "01", "revision": 7, "took_us": 900,
        "vips": [{"name": "payments.shop@phx", "v4": "240.1.2.3", "v6": "fd9c:43a6:77c1::1:203"}],
        "offers": [offer],
        "left_out": [{"cluster": "fra", "reason": "missing-port", "why": "no"}],
    });
    golden(&detail, &written);
}

#[test]
fn status() {
    let status = Status {
        cluster: "iad".into(),
        cluster_id: 9,
        trust_domain: "iad.mesh".into(),
        node: "0000000000000001".into(),
        role: "gateway".into(),
        release: "0.1.0".into(),
        region: "us-ashburn-1".into(),
        zone: "AD-1".into(),
        ready: false,
        not_ready: vec!["disk: full".into()],
        listen: vec!["0.0.0.0:7443".into()],
        registry: Registry {
            role: "leader".into(),
            leader: Some("0000000000000001".into()),
            writable: true,
            term: 3,
            revision: 41,
            voters: vec!["0000000000000001".into()],
            learners: vec![],
        },
        attached: 1,
        workloads: 2,
        services: 3,
        imports: 4,
        links: vec![LinkState { cluster: "phx".into(), state: "stale".into(), stale_for: Some(9) }],
        packets: Packets { received: 10, forwarded: 9, dropped: [("no-path".to_owned(), 1)].into() },
        svid_expires_at: 1_700_000_000,
    };
    let expected = json!({
        "cluster": "iad", "cluster_id": 9, "trust_domain": "iad.mesh", "node": "0000000000000001", "role": "gateway",
        "release": "0.1.0", "region": "us-ashburn-1", "zone": "AD-1", "ready": false,
        "not_ready": ["disk: full"], "listen": ["0.0.0.0:7443"],
        "registry": {
            "role": "leader", "leader": "0000000000000001", "writable": true, "term": 3, "revision": 41,
            "voters": ["0000000000000001"], "learners": []
        },
        "attached": 1, "workloads": 2, "services": 3, "imports": 4,
        "links": [{"cluster": "phx", "state": "stale", "stale_for": 9}],
        "packets": {"received": 10, "forwarded": 9, "dropped": {"no-path": 1}},
        "svid_expires_at": 1_700_000_000u64,
    });
    golden(&status, &expected);
}

#[test]
fn workloads_and_gateways() {
    let workload = Workload {
        id: "0000000000000005".into(),
        identity: "spiffe://iad.mesh/ns/shop/sa/payments".into(),
        services: vec!["payments.shop".into()],
        region: "us-ashburn-1".into(),
        zone: "AD-1".into(),
        health: "draining".into(),
        gateways: vec!["0000000000000001".into()],
        release: "0.1.0".into(),
    };
    let expected = json!({
        "id": "0000000000000005", "identity": "spiffe://iad.mesh/ns/shop/sa/payments", "services": ["payments.shop"],
        "region": "us-ashburn-1", "zone": "AD-1", "health": "draining", "gateways": ["0000000000000001"], "release": "0.1.0",
    });
    golden(&workload, &expected);
    let gateway = Gateway {
        node: "0000000000000001".into(),
        role: "forwarder".into(),
        registry: "learner".into(),
        region: "us-ashburn-1".into(),
        zone: "AD-1".into(),
        cluster_addrs: vec!["10.0.0.1:7443".into()],
        link_addrs: vec![],
        alive: Some(true),
        rtt_us: None,
        draining: true,
        lag: Some(3),
        attached: Some(12),
        packets_per_second: None,
        release: Some("0.1.0".into()),
        up_seconds: Some(60),
        heard_ms_ago: Some(250),
    };
    let expected = json!({
        "node": "0000000000000001", "role": "forwarder", "registry": "learner", "region": "us-ashburn-1", "zone": "AD-1",
        "cluster_addrs": ["10.0.0.1:7443"], "link_addrs": [], "alive": true, "rtt_us": null,
        "draining": true, "lag": 3, "attached": 12, "packets_per_second": null, "release": "0.1.0", "up_seconds": 60,
        "heard_ms_ago": 250,
    });
    golden(&gateway, &expected);
}

#[test]
fn tokens() {
    let request = CreateToken {
        role: "workload".into(),
        services: vec!["payments.shop:80/http".into()],
        namespace: Some("shop".into()),
        account: None,
        uses: Some(2),
        ttl_seconds: Some(60),
    };
    let expected = json!({
        "role": "workload", "services": ["payments.shop:80/http"], "namespace": "shop", "account": null, "uses": 2,
        "ttl_seconds": 60,
    });
    golden(&request, &expected);
    assert!(serde_json::from_value::<CreateToken>(json!({"role": "gateway"})).unwrap().services.is_empty());
    let created = CreatedToken { id: "0101010101010101".into(), token: "cwj1_x".into(), expires_at: 9 };
    golden(&created, &json!({"id": "0101010101010101", "token": "cwj1_x", "expires_at": 9}));
    let token = Token {
        id: "0101010101010101".into(),
        role: "link".into(),
        identity: None,
        services: vec![],
        uses_left: 1,
        expires_at: 9,
        state: "valid".into(),
    };
    let expected = json!({
        "id": "0101010101010101", "role": "link", "identity": null, "services": [], "uses_left": 1, "expires_at": 9,
        "state": "valid",
    });
    golden(&token, &expected);
}

#[test]
fn links() {
    golden(
        &Invite { for_cluster: Some("phx".into()), ttl_seconds: None },
        &json!({"for_cluster": "phx", "ttl_seconds": null}),
    );
    golden(
        &Accept { token: "cwl1_x".into(), merge_namespaces: Some(vec!["shop".into()]) },
        &json!({"token": "cwl1_x", "merge_namespaces": ["shop"]}),
    );
    let link = Link {
        cluster: "phx".into(),
        cluster_id: 9,
        trust_domain: "phx.mesh".into(),
        region: "us-phoenix-1".into(),
        state: "up".into(),
        stale_for: None,
        established_at: 1,
        imports: 2,
        exports: 3,
        refused: vec!["a.b: it lacks port 80/tcp".into()],
        gateways: vec![LinkGateway {
            node: "0000000000000003".into(),
            addr: "192.0.2.1:7443".into(),
            ports: (1, 2),
            rtt_us: Some(80_000),
            control: true,
            rtt_control_us: Some(81_000),
            loss_in: Some(0),
            loss_out: None,
            verdict: Some("up".into()),
        }],
        roots: vec!["00ff".into()],
        release: None,
        paused: true,
        peer_paused: false,
        merge_namespaces: vec!["*".into()],
        stale: Stale::EjectAfter { seconds: Some(30) },
        transit: true,
        via: vec!["lhr".into()],
    };
    let expected = json!({
        "cluster": "phx", "cluster_id": 9, "trust_domain": "phx.mesh", "region": "us-phoenix-1", "state": "up",
        "stale_for": null, "established_at": 1, "imports": 2, "exports": 3, "refused": ["a.b: it lacks port 80/tcp"],
        "gateways": [{
            "node": "0000000000000003", "addr": "192.0.2.1:7443", "ports": [1, 2], "rtt_us": 80000, "control": true,
            "rtt_control_us": 81000, "loss_in": 0, "loss_out": null, "verdict": "up"
        }],
        "roots": ["00ff"], "release": null, "paused": true, "peer_paused": false, "merge_namespaces": ["*"],
        "stale": {"eject-after": {"seconds": 30}}, "transit": true, "via": ["lhr"],
    });
    golden(&link, &expected);
}

#[test]
fn exports_checks_and_problems() {
    golden(&ExportTo { to: None }, &json!({"to": null}));
    assert!(serde_json::from_value::<ExportTo>(json!({})).unwrap().to.is_none());
    let export = Export {
        service: "payments.shop".into(),
        handle: "00000000000000ff".into(),
        to: vec!["phx".into()],
        not_linked: vec!["phx".into()],
    };
    let expected = json!({"service": "payments.shop", "handle": "00000000000000ff", "to": ["phx"], "not_linked": ["phx"]});
    golden(&export, &expected);
    let check = Check {
        name: "registry".into(),
        state: "failed".into(),
        seen: "3 voters".into(),
        cause: Some("no leader".into()),
        fix: None,
    };
    let expected =
        json!({"name": "registry", "state": "failed", "seen": "3 voters", "cause": "no leader", "fix": null});
    golden(&check, &expected);
    golden(
        &Problem { reason: "unauthorized".into(), message: "no".into() },
        &json!({"reason": "unauthorized", "message": "no"}),
    );
}
