//! The client against a server that has the admin API's certificates and a router of the test's own.

use super::{Api, Request};
use crate::context::Access;
use crate::failure::Failure;
use axum::body::Body;
use axum::extract::{Path, RawQuery};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use causeway_gateway::admin::api::{CreateToken, CreatedToken, Problem, ServiceEvent};
use causeway_gateway::context::ContextFile;
use causeway_identity::{ClusterCa, KeyPair, web_server_config};
use causeway_runtime::{bind_tcp, serve_https};
use data_encoding::BASE64;
use futures_util::stream;
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// A server that runs until it is dropped.
struct Server {
    ca: ClusterCa,
    addr: SocketAddr,
    runtime: Runtime,
}

impl Server {
    fn start() -> Self {
        Self::start_with("127.0.0.1", SystemTime::now())
    }

    /// A server whose certificate is for `name` and was made at `made`, for an hour.
    fn start_with(name: &str, made: SystemTime) -> Self {
        let ca = ca("iad.mesh", made);
        let key = KeyPair::generate().unwrap();
        let ttl = Duration::from_secs(3600);
        let chain = ca.sign_web(&key.csr().unwrap(), &[name.to_owned()], made, ttl).unwrap();
        let tls = web_server_config(chain, &key).unwrap();
        let listener = bind_tcp("admin", "--admin", "127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let runtime = causeway_runtime::control_runtime(1).unwrap();
        let (keep, tls) = tokio::sync::watch::channel(tls);
        runtime.spawn(async move {
            let _keep = keep;
            serve_https(listener, tls, router(), CancellationToken::new()).await
        });
        Self { ca, addr, runtime }
    }

    fn api(&self) -> Api {
        self.api_with("s3cret", &pem(&self.ca))
    }

    fn api_with(&self, credential: &str, ca: &str) -> Api {
        api_at(&format!("https://{}", self.addr), credential, ca)
    }
}

fn ca(trust_domain: &str, made: SystemTime) -> ClusterCa {
    ClusterCa::create(&trust_domain.parse().unwrap(), made).unwrap()
}

fn pem(ca: &ClusterCa) -> String {
    let body = BASE64.encode(ca.root_der());
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn api_at(admin: &str, credential: &str, ca: &str) -> Api {
    api_with_more(admin, &[], credential, ca)
}

fn api_with_more(admin: &str, also: &[&str], credential: &str, ca: &str) -> Api {
    let file = ContextFile {
        admin: admin.into(),
        credential: credential.into(),
        ca: ca.into(),
        also: also.iter().map(|also| (*also).to_owned()).collect(),
    };
    Api::new(Access { origin: "context iad".into(), path: PathBuf::new(), file }).unwrap()
}

fn router() -> Router {
    Router::new()
        .route("/v1/echo/{name}", get(echo).put(echo).delete(echo))
        .route("/v1/tokens", post(create))
        .route("/v1/services", get(watch))
        .route("/v1/html", get(async || Html("<h1>hello</h1>")))
        .route("/v1/slow", get(async || std::future::pending::<()>().await))
}

/// What came in, and whether the credential was right.
async fn echo(
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: String,
) -> Response {
    if headers.get("authorization").is_none_or(|value| value != "Bearer s3cret") {
        let problem =
            Problem { reason: "credential".into(), message: "the credential is not known here".into() };
        return (StatusCode::UNAUTHORIZED, Json(problem)).into_response();
    }
    Json(json!({ "name": name, "query": query, "body": body })).into_response()
}

async fn create(Json(asked): Json<CreateToken>) -> Response {
    if asked.services.is_empty() {
        let message = "a workload token needs a service or an account".to_owned();
        return (StatusCode::CONFLICT, Json(Problem { reason: "token-empty".into(), message }))
            .into_response();
    }
    Json(CreatedToken { id: "01".into(), token: asked.services.join("+"), expires_at: 7 }).into_response()
}

/// Two events in pieces that do not end where lines do, an empty line between them.
async fn watch() -> Body {
    let removed = |name: &str| serde_json::to_string(&ServiceEvent::Removed { name: name.into() }).unwrap();
    let text = format!("{}\n\n{}\n", removed("a.b"), removed("c.d"));
    let pieces: Vec<_> =
        text.as_bytes().chunks(7).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    Body::from_stream(stream::iter(pieces))
}

fn failure<T>(result: anyhow::Result<T>) -> Failure {
    result.err().unwrap().downcast::<Failure>().unwrap()
}

#[test]
fn a_request_carries_credential_query_and_body() {
    let server = Server::start();
    let api = server.api();
    let got: Value = api.send(&Request::get("/v1/echo/a.b").query("x", Some("1 2"))).unwrap();
    assert_eq!(got, json!({ "name": "a.b", "query": "x=1%202", "body": "" }));
    let put: Value = api.send(&Request::put("/v1/echo/c", &json!({ "to": ["phx"] })).unwrap()).unwrap();
    assert_eq!(put["body"], "{\"to\":[\"phx\"]}");
    let gone: Value = api.send(&Request::delete("/v1/echo/d").query("from", Some("phx"))).unwrap();
    assert_eq!(gone["query"], "from=phx");
    let body = CreateToken { services: vec!["a.b:80/tcp".into()], ..CreateToken::default() };
    assert_eq!(api.post::<CreatedToken>("/v1/tokens", &body).unwrap().token, "a.b:80/tcp");
}

#[test]
fn a_problem_keeps_its_reason_and_words() {
    let server = Server::start();
    let refused = failure(server.api().post::<CreatedToken>("/v1/tokens", &CreateToken::default()));
    let expected = Failure::new("token-empty", "a workload token needs a service or an account");
    assert_eq!(refused, expected);
    let wrong = server.api_with("other", &pem(&server.ca));
    let refused = failure(wrong.get::<Value>("/v1/echo/a"));
    assert_eq!(refused.reason, "credential");
    assert!(refused.causes[0].contains("context iad"), "{refused:?}");
}

#[test]
fn what_is_no_admin_api_is_told_apart() {
    let server = Server::start();
    let no_such_path = failure(server.api().get::<Value>("/v2/status"));
    assert_eq!(no_such_path.reason, "not_a_gateway");
    assert!(no_such_path.message.contains("404"), "{no_such_path:?}");
    assert_eq!(failure(server.api().get::<Value>("/v1/html")).reason, "not_a_gateway");
}

#[test]
fn another_clusters_certificate_is_refused_and_the_context_named() {
    let server = Server::start();
    let other = server.api_with("s3cret", &pem(&ca("iad.mesh", SystemTime::now())));
    let refused = failure(other.get::<Value>("/v1/echo/a"));
    assert_eq!(refused.reason, "certificate");
    assert!(refused.causes[0].contains("context iad"), "{refused:?}");
}

#[test]
fn an_expired_certificate_points_at_the_clocks() {
    let made = SystemTime::now() - Duration::from_secs(7200);
    let server = Server::start_with("127.0.0.1", made);
    let refused = failure(server.api().get::<Value>("/v1/echo/a"));
    assert_eq!(refused.reason, "certificate");
    assert!(refused.fixes[0].contains("clocks"), "{refused:?}");
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let server = Server::start_with("192.0.2.1", SystemTime::now());
    let refused = failure(server.api().get::<Value>("/v1/echo/a"));
    assert_eq!(refused.reason, "certificate");
    assert!(refused.fixes[0].contains("--admin"), "{refused:?}");
}

#[test]
fn nobody_there_and_nobody_with_tls() {
    let ca = pem(&ca("iad.mesh", SystemTime::now()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let talking = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let mut hello = [0; 16];
        stream.read_exact(&mut hello).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    assert_eq!(failure(api_at(&url, "x", &ca).get::<Value>("/v1/status")).reason, "not_tls");
    talking.join().unwrap();
    let refused = failure(api_at(&url, "x", &ca).get::<Value>("/v1/status"));
    assert_eq!(refused.reason, "refused");
    assert!(refused.message.contains(&url) && refused.fixes[0].contains("running"), "{refused:?}");
}

#[test]
fn another_gateway_of_the_context_answers_when_the_first_cannot_be_reached() {
    let server = Server::start();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = format!("https://{}", closed.local_addr().unwrap());
    drop(closed);
    let there = format!("https://{}", server.addr);
    let api = api_with_more(&gone, &[&there], "s3cret", &pem(&server.ca));
    let got: Value = api.get("/v1/echo/a.b").unwrap();
    assert_eq!((got["name"].as_str(), api.address()), (Some("a.b"), there.as_str()));
    api.try_another();
    assert_eq!(api.address(), gone);
    let refused = failure(api_with_more(&gone, &[&gone], "x", &pem(&server.ca)).get::<Value>("/v1/status"));
    assert_eq!(refused.reason, "refused");
    assert!(refused.causes.iter().any(|cause| cause.contains("nor")), "{refused:?}");
    let unauthorized =
        failure(api_with_more(&there, &[&gone], "x", &pem(&server.ca)).get::<Value>("/v1/echo/a"));
    assert_eq!(unauthorized.reason, "credential", "what was answered counts");
}

#[test]
fn an_answer_that_does_not_come_is_given_up() {
    let server = Server::start();
    let request = Request::get("/v1/slow").within(Duration::from_millis(200));
    assert_eq!(failure(server.api().send::<Value>(&request)).reason, "timeout");
}

#[test]
fn a_watch_gives_one_event_a_line_until_it_ends() {
    let server = Server::start();
    let mut watch = server.api().watch(&Request::get("/v1/services").query("watch", Some("true"))).unwrap();
    let mut names = Vec::new();
    while let Some(event) = watch.next::<ServiceEvent>().unwrap() {
        match event {
            ServiceEvent::Removed { name } => names.push(name),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(names, ["a.b", "c.d"]);
}

#[test]
fn a_watch_ends_with_an_error_when_the_line_is_not_an_event() {
    let server = Server::start();
    let mut watch = server.api().watch(&Request::get("/v1/html")).unwrap();
    assert_eq!(failure(watch.next::<ServiceEvent>()).reason, "watch_ended");
}

#[test]
fn roots_that_cannot_be_used_are_named() {
    let roots = |pem: &str| super::roots(pem, "context iad").unwrap_err();
    assert!(roots("").causes[0].contains("no certificate"));
    let junk =
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64.encode(b"junk"));
    assert!(roots(&junk).causes[0].contains("certificate 1"), "{:?}", roots(&junk));
}

impl Drop for Server {
    fn drop(&mut self) {
        // the runtime would wait for connections that clients keep
        let runtime = std::mem::replace(&mut self.runtime, causeway_runtime::DataRuntime::build().unwrap());
        runtime.shutdown_background();
    }
}
