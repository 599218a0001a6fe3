//! The handlers over a gateway's real hub, without other gateways or sidecars.

use super::api::{
    Check, CreatedToken, Export, Gateway, Link, Problem, Service, ServiceEvent, ServicePage, Status, Token,
};
use super::router;
use super::tests::{Answer, ask};
use crate::hub;
use causeway_wire::token::JoinToken;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

struct Fixture {
    addr: SocketAddr,
    gateway: hub::fixture::Fixture,
}

impl Fixture {
    /// The first gateway of cluster `iad`, with its admin API over plain HTTP.
    async fn start() -> Self {
        let gateway = hub::fixture::Fixture::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let service =
            router(gateway.hub.clone(), "sesame".into()).into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { addr, gateway }
    }

    async fn ask(&self, request: &str, body: &str) -> Answer {
        ask(self.addr, request, "Bearer sesame", body).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        self.ok(&format!("GET {path}"), "").await
    }

    async fn ok<T: DeserializeOwned>(&self, request: &str, body: &str) -> T {
        let (status, body) = self.ask(request, body).await;
        assert_eq!(status, 200, "{request}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    async fn refused(&self, request: &str, body: &str) -> (u16, String) {
        let (status, body) = self.ask(request, body).await;
        let problem: Problem = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        (status, problem.reason)
    }

    async fn token(&self, services: &str) -> CreatedToken {
        self.ok("POST /v1/tokens", &format!(r#"{{"role":"workload","services":[{services}]}}"#)).await
    }

    async fn stop(self) {
        self.gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_looks_around() {
    let gateway = Fixture::start().await;
    let status: Status = gateway.get("/v1/status").await;
    assert_eq!((status.cluster.as_str(), status.role.as_str(), status.services), ("iad", "gateway", 0));
    assert!(status.registry.writable && status.registry.role == "leader", "{status:?}");
    assert!(
        status.listen[0].starts_with("127.0.0.1:") && status.svid_expires_at > 1_700_000_000,
        "{status:?}"
    );
    let gateways: Vec<Gateway> = gateway.get("/v1/gateways").await;
    assert_eq!((gateways.len(), gateways[0].registry.as_str(), gateways[0].alive), (1, "leader", None));
    assert!(gateway.get::<Vec<Link>>("/v1/links").await.is_empty());
    assert!(gateway.get::<Vec<super::api::Workload>>("/v1/workloads").await.is_empty());
    let checks: Vec<Check> = gateway.get("/v1/check").await;
    let failed: Vec<&Check> = checks.iter().filter(|check| check.state == "failed").collect();
    assert!(failed.is_empty() && checks.iter().any(|check| check.name == "registry"), "{failed:?}");
    assert_eq!(gateway.refused("GET /v1/links/phx", "").await, (404, "link-unknown".into()));
    assert_eq!(gateway.refused("DELETE /v1/links/phx", "").await, (404, "link-unknown".into()));
    assert_eq!(gateway.refused("GET /v1/links/PHX", "").await, (400, "invalid-request".into()));
    let own = r#"{"for_cluster":"iad"}"#;
    assert_eq!(gateway.refused("POST /v1/links/invite", own).await, (400, "invalid-request".into()));
    let damaged = r#"{"token":"cwl1_x"}"#;
    assert_eq!(gateway.refused("POST /v1/links/accept", damaged).await, (400, "token-damaged".into()));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_made_listed_and_revoked() {
    let gateway = Fixture::start().await;
    let made = gateway.token(r#""payments.shop:80/http""#).await;
    let token: JoinToken = made.token.parse().unwrap();
    assert_eq!(
        token.core.gateways[0].to_string(),
        gateway.gateway.hub.forwarder.sockets().listen[0].to_string()
    );
    assert!(
        gateway
            .gateway
            .hub
            .own_bundle(&gateway.gateway.hub.catalog())
            .roots
            .iter()
            .any(|root| { causeway_identity::fingerprint(root) == token.core.root_fingerprint })
    );
    let invite: CreatedToken =
        gateway.ok("POST /v1/links/invite", r#"{"for_cluster":"phx","ttl_seconds":60}"#).await;
    let states = || async {
        let tokens: Vec<Token> = gateway.get("/v1/tokens").await;
        let mut states: Vec<_> =
            tokens.into_iter().map(|token| (token.id, token.role, token.state)).collect();
        states.sort_by_key(|(_, role, _)| role.clone());
        states
    };
    let row =
        |made: &CreatedToken, role: &str, state: &str| (made.id.clone(), role.to_owned(), state.to_owned());
    assert_eq!(states().await, [row(&invite, "link", "valid"), row(&made, "workload", "valid")]);
    for id in [&made.id, &invite.id] {
        let _: serde_json::Value = gateway.ok(&format!("DELETE /v1/tokens/{id}"), "").await;
    }
    assert_eq!(states().await, [row(&invite, "link", "revoked"), row(&made, "workload", "revoked")]);
    assert_eq!(
        gateway.refused("DELETE /v1/tokens/00000000000000ff", "").await,
        (404, "token-unknown".into())
    );
    assert_eq!(gateway.refused("DELETE /v1/tokens/ff", "").await, (400, "invalid-request".into()));
    let other = r#"{"role":"workload","services":["payments.shop:81"]}"#;
    assert_eq!(gateway.refused("POST /v1/tokens", other).await, (409, "ports-differ".into()));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_paged_resolved_and_exported() {
    let gateway = Fixture::start().await;
    gateway.token(r#""payments.shop:80/http", "orders.shop", "front.web""#).await;
    let page: ServicePage = gateway.get("/v1/services?limit=2").await;
    let names: Vec<&str> = page.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!((names, page.next.as_deref()), (vec!["orders.shop", "payments.shop"], Some("payments.shop")));
    let rest: ServicePage = gateway.get("/v1/services?limit=2&after=payments.shop").await;
    assert_eq!((rest.services.len(), rest.services[0].name.as_str(), rest.next), (1, "front.web", None));
    let elsewhere: ServicePage = gateway.get("/v1/services?region=us-phoenix-1").await;
    assert!(elsewhere.services.is_empty());
    let found: Service = gateway.get("/v1/resolve/payments.shop").await;
    assert_eq!((found.offers[0].origin.as_str(), found.offers[0].ports[0].as_str()), ("local", "80/http"));
    assert_eq!(gateway.refused("GET /v1/resolve/nobody.shop", "").await, (404, "service-unknown".into()));
    assert_eq!(
        gateway.refused("GET /v1/services?watch=true&limit=1", "").await,
        (400, "invalid-request".into())
    );

    let export: Export = gateway.ok("PUT /v1/exports/payments.shop", r#"{"to":["phx"]}"#).await;
    assert_eq!(
        (export.to.as_slice(), export.not_linked.as_slice()),
        (&["phx".to_owned()][..], &["phx".to_owned()][..])
    );
    let again: Export = gateway.ok("PUT /v1/exports/payments.shop", r#"{"to":["fra"]}"#).await;
    assert_eq!((again.to, again.handle), (vec!["fra".to_owned(), "phx".to_owned()], export.handle));
    let _: serde_json::Value = gateway.ok("DELETE /v1/exports/payments.shop?from=fra", "").await;
    assert_eq!(gateway.get::<Vec<Export>>("/v1/exports").await[0].to, ["phx"]);
    let _: serde_json::Value = gateway.ok("DELETE /v1/exports/payments.shop", "").await;
    assert!(gateway.get::<Vec<Export>>("/v1/exports").await.is_empty());
    assert_eq!(gateway.refused("DELETE /v1/exports/payments.shop", "").await, (404, "not-exported".into()));
    assert_eq!(gateway.refused("PUT /v1/exports/nobody.shop", "{}").await, (404, "service-unknown".into()));
    assert_eq!(
        gateway.refused("PUT /v1/exports/orders.shop", r#"{"to":["iad"]}"#).await,
        (400, "export-to-self".into())
    );
    gateway.stop().await;
}

/// The objects of a watch.
struct Watch(Lines<BufReader<TcpStream>>);

impl Watch {
    async fn start(addr: SocketAddr, path: &str) -> Self {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer sesame\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self(BufReader::new(stream).lines())
    }

    /// The next event that says what there is; nothing at the end. Headers and the sizes of chunks are no objects.
    async fn next(&mut self) -> Option<ServiceEvent> {
        loop {
            let line = timeout(SOON, self.0.next_line()).await.unwrap().unwrap()?;
            if line.starts_with('{') {
                match serde_json::from_str(&line).unwrap() {
                    ServiceEvent::Snapshot { .. }
                    | ServiceEvent::Resumed { .. }
                    | ServiceEvent::Cursor { .. } => {}
                    event => return Some(event),
                }
            }
            if line == "0" {
                return None;
            }
        }
    }

    async fn set(&mut self) -> Service {
        match self.next().await {
            Some(ServiceEvent::Set { service }) => service,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_tells_everything_then_changes_until_the_drain() {
    let gateway = Fixture::start().await;
    gateway.token(r#""payments.shop:80""#).await;
    let mut all = Watch::start(gateway.addr, "/v1/services?watch=true").await;
    let mut one = Watch::start(gateway.addr, "/v1/services?watch=true&name=orders.shop").await;
    assert_eq!(all.set().await.name, "payments.shop");
    assert!(matches!(all.next().await, Some(ServiceEvent::Synced { revision }) if revision > 0));
    assert!(matches!(one.next().await, Some(ServiceEvent::Synced { .. })));

    // a second token for the same identity and service changes nothing that is shown
    gateway.token(r#""payments.shop:80""#).await;
    gateway.token(r#""orders.shop""#).await;
    assert_eq!(all.set().await.name, "orders.shop");
    assert_eq!(one.set().await.name, "orders.shop");
    let _: Export = gateway.ok("PUT /v1/exports/payments.shop", "{}").await;
    let exported = all.set().await;
    assert_eq!((exported.name.as_str(), exported.offers[0].exported_to[0].as_str()), ("payments.shop", "*"));
    gateway
        .gateway
        .hub
        .propose("test", causeway_catalog::RemoveService { name: "orders.shop".parse().unwrap() })
        .await
        .unwrap();
    for watch in [&mut all, &mut one] {
        let removed = watch.next().await;
        assert!(
            matches!(&removed, Some(ServiceEvent::Removed { name }) if name == "orders.shop"),
            "{removed:?}"
        );
    }

    gateway.gateway.drain.drain(Duration::from_secs(1)).await;
    assert!(all.next().await.is_none() && one.next().await.is_none());
    gateway.stop().await;
}
