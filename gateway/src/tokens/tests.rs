use super::*;
use causeway_model::{ClusterId, Locality};

fn own() -> TrustDomain {
    "iad.mesh".parse().unwrap()
}

fn workload_request(services: &[&str]) -> Request {
    let services = services.iter().map(|text| (*text).to_owned()).collect();
    Request { role: "workload".into(), services, ..Request::default() }
}

fn facts() -> ClusterFacts {
    ClusterFacts {
        name: "iad".parse().unwrap(),
        id: ClusterId::new(7).unwrap(),
        trust_domain: own(),
        locality: Locality { region: "us-ashburn-1".into(), zone: "AD-1".into() },
    }
}

fn gateway_facts(node: u64, role: GatewayRole, addrs: &[&str]) -> GatewayFacts {
    GatewayFacts {
        node: NodeId(node),
        role,
        locality: facts().locality,
        cluster_addrs: addrs.iter().map(|addr| addr.parse().unwrap()).collect(),
        link_addrs: Vec::new(),
    }
}

fn identity(request: &Request) -> String {
    match plan(request, &own()).unwrap().kind {
        TokenKind::Workload { identity, .. } => identity.to_string(),
        TokenKind::Gateway { .. } => unreachable!(),
    }
}

#[test]
fn the_identity_comes_from_the_first_service_unless_it_is_given() {
    assert_eq!(
        identity(&workload_request(&["payments.shop:80/http", "a.b"])),
        "spiffe://iad.mesh/ns/shop/sa/payments"
    );
    assert_eq!(identity(&workload_request(&[])), "spiffe://iad.mesh/ns/default/sa/client");
    let given = Request {
        namespace: Some("web".into()),
        account: Some("front".into()),
        ..workload_request(&["payments.shop"])
    };
    assert_eq!(identity(&given), "spiffe://iad.mesh/ns/web/sa/front");
    assert_eq!(
        identity(&Request { account: Some("checkout".into()), ..workload_request(&[]) }),
        "spiffe://iad.mesh/ns/default/sa/checkout"
    );
}

#[test]
fn services_declare_ports() {
    let plan = plan(&workload_request(&["payments.shop:80/http,53/udp", "orders.shop"]), &own()).unwrap();
    let TokenKind::Workload { services, .. } = plan.kind else { unreachable!() };
    let shown: Vec<String> = services.iter().map(|s| format!("{} [{}]", s.name, s.ports)).collect();
    assert_eq!(shown, ["payments.shop [53/udp,80/http]", "orders.shop []"]);
    assert_eq!((plan.uses, plan.ttl), (1, 3600));
}

#[test]
fn a_wrong_request_names_the_field() {
    let base = || workload_request(&["a.b"]);
    let field = |request: Request| plan(&request, &own()).unwrap_err().field();
    for services in [&["a"][..], &["a.b:"], &["a.b:80/ftp"], &["a.b:80,80"], &["a.b", "a.b:80"], &["a.b:0"]] {
        assert_eq!(field(workload_request(services)), Some("services"), "{services:?}");
    }
    assert_eq!(field(Request { role: "admin".into(), ..base() }), Some("role"));
    assert_eq!(field(Request { namespace: Some("A".into()), ..base() }), Some("namespace"));
    assert_eq!(field(Request { account: Some(String::new()), ..base() }), Some("account"));
    for uses in [0, 100_001] {
        assert_eq!(field(Request { uses: Some(uses), ..base() }), Some("uses"));
    }
    for ttl in [0, MAX_TTL + 1] {
        assert_eq!(field(Request { ttl_seconds: Some(ttl), ..base() }), Some("ttl_seconds"));
    }
    assert_eq!(field(Request { role: "gateway".into(), ..base() }), Some("services"));
    let named = Request { role: "forwarder".into(), account: Some("a".into()), ..Request::default() };
    assert_eq!(field(named), Some("account"));
}

#[test]
fn the_token_and_the_command_agree() {
    let plan = plan(&Request { uses: Some(3), ..workload_request(&["payments.shop:80"]) }, &own()).unwrap();
    let fresh = Fresh { id: [1; 8], secret: [2; 32], now: 1000 };
    let gateways = vec!["127.0.0.1:7443".parse().unwrap()];
    let (token, command) = mint(&plan, &facts(), [3; 32], gateways.clone(), &fresh).unwrap();
    assert_eq!(token.to_string().parse::<JoinToken>().unwrap(), token);
    assert_eq!(command.verifier.0, token.core.verifier());
    assert_eq!((command.id.0, command.uses, command.expires_at), ([1; 8], 3, 4600));
    assert_eq!(
        (token.core.expires_at, &token.core.gateways, token.core.root_fingerprint),
        (4600, &gateways, [3; 32])
    );
    assert_eq!(token.join, JoinFor::Workload(vec!["payments.shop".parse().unwrap()]));
    assert_eq!(command.kind.to_string(), "workload spiffe://iad.mesh/ns/shop/sa/payments");
    assert_eq!(mint(&plan, &facts(), [3; 32], Vec::new(), &fresh).unwrap_err().reason(), "no-address");
}

#[test]
fn own_addresses_come_first_and_forwarders_are_left_out() {
    use GatewayRole::{Forwarder, Gateway};
    let gateways = [
        gateway_facts(1, Gateway, &["a:1", "a:2"]),
        gateway_facts(2, Forwarder, &["f:1"]),
        gateway_facts(3, Gateway, &["c:1", "c:2"]),
        gateway_facts(4, Gateway, &["d:1"]),
    ];
    let shown = |own| addresses(NodeId(own), &gateways).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(3), ["c:1", "c:2", "a:1", "d:1", "a:2"]);
    assert_eq!(shown(9), ["a:1", "c:1", "d:1", "a:2", "c:2"]);
}

#[test]
fn a_token_full_of_long_names_can_be_read_back() {
    let long = |n: usize| format!("{n:063}.{}", "b".repeat(63));
    let services: Vec<String> = (0..32).map(long).collect();
    let plan = plan(&Request { role: "workload".into(), services, ..Request::default() }, &own()).unwrap();
    let host = |n: usize| format!("{}{n}:7443", "h".repeat(240)).parse().unwrap();
    let fresh = Fresh { id: [1; 8], secret: [2; 32], now: 1000 };
    let (token, _) = mint(&plan, &facts(), [3; 32], (10..26).map(host).collect(), &fresh).unwrap();
    assert!(token.core.gateways.len() > 1);
    assert_eq!(token.to_string().parse::<JoinToken>().unwrap(), token);
}
