//! The guard of the router, with stub handlers: who gets in, and that whatever fails is a problem in JSON.

use super::api::{CreateToken, Problem, ServiceQuery};
use super::extract::{Actor, Ask, Body, Segment};
use super::*;
use axum::Json;
use axum::http::header::HeaderName;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);
const KEY: &str = "sesame";

async fn start() -> SocketAddr {
    let routes = Router::new()
        .route("/v1/tokens", post(async |Body(token): Body<CreateToken>| Json(token.role)))
        .route("/v1/services", get(async |Ask(query): Ask<ServiceQuery>| Json(query.limit)))
        .route(
            "/v1/links/{cluster}",
            get(async |Segment(cluster): Segment, by: Actor| Json((cluster, by.0))),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = guard(routes, KEY.to_owned()).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    addr
}

/// A status and a body.
pub(super) type Answer = (u16, String);

/// What comes back.
pub(super) async fn ask(addr: SocketAddr, request: &str, authorization: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "{request} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    let authorization =
        if authorization.is_empty() { String::new() } else { format!("Authorization: {authorization}\r\n") };
    // a server that refuses early does not read the rest
    let _ = stream.write_all(format!("{head}{authorization}\r\n{body}").as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

async fn problem(addr: SocketAddr, request: &str, body: &str) -> (u16, Problem) {
    let (status, body) = ask(addr, request, "Bearer sesame", body).await;
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

#[tokio::test]
async fn nobody_gets_in_without_the_credential() {
    let addr = start().await;
    for authorization in ["", "Bearer", "Bearer ", "Bearer sesam", "Bearer sesame2", "Basic sesame", "sesame"]
    {
        for path in ["/v1/services", "/nowhere"] {
            let (status, body) = ask(addr, &format!("GET {path}"), authorization, "").await;
            let problem: Problem = serde_json::from_str(&body).unwrap();
            assert_eq!((status, problem.reason.as_str()), (401, "unauthorized"), "{authorization:?}");
            assert!(problem.message.contains("--context"), "{}", problem.message);
        }
    }
    assert_eq!(ask(addr, "GET /v1/services?limit=5", "bearer sesame", "").await, (200, "5".to_owned()));
}

#[test]
fn an_empty_credential_lets_nobody_in_and_two_are_one_too_many() {
    let header = |values: &[&'static str]| {
        let pair = |value: &&'static str| {
            (HeaderName::from_static("authorization"), HeaderValue::from_static(value))
        };
        values.iter().map(pair).collect::<HeaderMap>()
    };
    assert!(!is_authorized(&header(&["Bearer "]), ""));
    assert!(is_authorized(&header(&["Bearer sesame"]), KEY));
    assert!(!is_authorized(&header(&["Bearer sesame", "Bearer sesame"]), KEY));
}

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let addr = start().await;
    let (status, told) = problem(addr, "GET /v2/services", "").await;
    assert_eq!((status, told.reason.as_str()), (404, "no-such-path"));
    assert!(told.message.contains("GET /v2/services"), "{}", told.message);
    let (status, told) = problem(addr, "PUT /v1/services", "").await;
    assert_eq!((status, told.reason.as_str()), (405, "method-not-allowed"));
}

#[tokio::test]
async fn a_malformed_request_names_the_field() {
    let addr = start().await;
    for (request, body, field) in [
        ("POST /v1/tokens", r#"{"role":"workload","uses":"many"}"#, "uses"),
        ("POST /v1/tokens", r#"{"role":"workload","colour":1}"#, "colour"),
        ("POST /v1/tokens", r#"{}"#, "role"),
        ("POST /v1/tokens", r#"{"role""#, "body"),
        ("POST /v1/tokens", "", "body"),
        ("GET /v1/services?limit=many", "", "limit"),
        ("GET /v1/services?colour=red", "", "colour"),
        ("GET /v1/links/%ff", "", "path"),
    ] {
        let (status, told) = problem(addr, request, body).await;
        assert_eq!((status, told.reason.as_str()), (400, "invalid-request"), "{request} {body}");
        assert!(told.message.contains(field), "{request} {body}: {}", told.message);
    }
}

#[tokio::test]
async fn a_large_body_is_refused() {
    let addr = start().await;
    let (status, told) = problem(addr, "POST /v1/tokens", &"x".repeat(MAX_BODY + 1)).await;
    assert_eq!((status, told.reason.as_str()), (413, "too-large"));
}

#[tokio::test]
async fn the_audit_hears_where_a_request_came_from() {
    let addr = start().await;
    let (status, body) = ask(addr, "GET /v1/links/phx", "Bearer sesame", "").await;
    assert_eq!((status, body.as_str()), (200, r#"["phx","operator at 127.0.0.1"]"#));
}
