//! Who may serve, who may call, and what an application sees when they may not.

use super::mesh::{Cluster, Forwarder, Node, SOON, Setup, WINDOW, application, ask, echo, pair};
use crate::access::Direction::{Inbound, Outbound};
use crate::choose::Target;
use causeway_identity::CLOCK_SLACK;
use causeway_model::{ServiceHandle, WorkloadId};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn is_refused(listen: SocketAddr) {
    let error = ask(listen, b"anybody?").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// A client in one cluster and a server in another, which exports its service under a handle.
struct Two {
    phx: Cluster,
    iad: Cluster,
    client: Node,
    server: Node,
    listen: SocketAddr,
    _forwarder: Forwarder,
}

const HANDLE: ServiceHandle = ServiceHandle(77);

async fn two(upstream: SocketAddr) -> Two {
    let (iad, phx) = (Cluster::new("iad", 1), Cluster::new("phx", 2));
    let forwarder = Forwarder::start(&[&iad, &phx]);
    forwarder.export(HANDLE, 9);
    let both = [&iad, &phx];
    let node = |cluster, instance, account, upstream| Setup {
        forwarder: &forwarder,
        cluster,
        instance,
        account,
        believes: &both,
        upstream,
        direct: true,
        window: WINDOW,
    };
    let client = node(&iad, 1, "web", None).start().await;
    let server = node(&phx, 9, "pay", Some(upstream)).start().await;
    let mut offer = phx.offer("pay");
    offer.handle = Some(HANDLE);
    client.learns(vec![offer]);
    let listen = client.listen();
    Two { client, server, listen, iad, phx, _forwarder: forwarder }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_what_lets_another_cluster_in() {
    let (listener, addr) = application().await;
    let two = two(addr).await;
    is_refused(two.listen).await;
    two.server.ended(Inbound, "not-exported", 1).await;
    two.client.ended(Outbound, "not-exported", 1).await;

    two.server.exports_to(&[&two.iad]);
    let mut client = TcpStream::connect(two.listen).await.unwrap();
    client.write_all(b"x").await.unwrap();
    let (mut server, from) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
    assert_eq!(from.ip().to_string(), "127.0.0.6");
    server.write_all(b"y").await.unwrap();
    timeout(SOON, client.read_exact(&mut [0])).await.unwrap().unwrap();

    // what runs is cut when the export is withdrawn
    let withdrawn = Instant::now();
    two.server.exports_to(&[]);
    let error = timeout(SOON, client.read(&mut [0])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let mut rest = Vec::new();
    assert!(timeout(SOON, server.read_to_end(&mut rest)).await.unwrap().is_err());
    assert!(withdrawn.elapsed() < Duration::from_secs(1));
    two.server.ended(Inbound, "not-exported", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_contact_by_service_is_kept_for_the_endpoint_that_answered() {
    let two = two(echo(b"").await).await;
    two.server.exports_to(&[&two.iad]);
    assert_eq!(ask(two.listen, b"one").await.unwrap(), b"one");
    let mut offer = two.phx.offer("pay");
    (offer.handle, offer.endpoints) = (Some(HANDLE), vec![two.phx.endpoint(9)]);
    two.client.learns(vec![offer]);
    assert_eq!(ask(two.listen, b"two").await.unwrap(), b"two");
    assert_eq!(two.client.endpoint.open_connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_may_not_serve_is_not_used() {
    let pair = pair(echo(b"").await).await;
    let mut offer = pair.cluster.offer("somebody-else");
    offer.endpoints = vec![pair.cluster.endpoint(2)];
    pair.client.learns(vec![offer.clone()]);
    is_refused(pair.listen).await;
    pair.client.ended(Outbound, "tls-failed", 1).await;

    // a connection that stands is judged again for every stream
    offer.identities = vec![pair.cluster.id("pay")];
    pair.client.learns(vec![offer.clone()]);
    assert_eq!(ask(pair.listen, b"hello").await.unwrap(), b"hello");
    offer.identities = vec![pair.cluster.id("somebody-else")];
    pair.client.learns(vec![offer]);
    is_refused(pair.listen).await;
    pair.client.ended(Outbound, "wrong-identity", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_reached_is_reset_with_its_reason() {
    let pair = pair(echo(b"").await).await;
    pair.client.learns(vec![]);
    is_refused(pair.listen).await;
    pair.client.ended(Outbound, "service-unknown", 1).await;

    let mut offer = pair.cluster.offer("pay");
    offer.endpoints = vec![];
    pair.client.learns(vec![offer.clone()]);
    is_refused(pair.listen).await;
    pair.client.ended(Outbound, "no-endpoint", 1).await;

    // nobody is there
    offer.endpoints = vec![pair.cluster.endpoint(1234)];
    pair.client.learns(vec![offer]);
    let began = Instant::now();
    is_refused(pair.listen).await;
    assert!(began.elapsed() < Duration::from_secs(8));
    pair.client.ended(Outbound, "connect-timeout", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_refuses_is_asked_elsewhere_and_loses_nothing() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let pair = pair(closed).await;
    is_refused(pair.listen).await;
    pair.server.ended(Inbound, "upstream-refused", 1).await;
    pair.client.ended(Outbound, "upstream-refused", 1).await;

    let _other = Setup {
        forwarder: &pair.forwarder,
        cluster: &pair.cluster,
        instance: 3,
        account: "pay",
        believes: &[&pair.cluster],
        upstream: Some(echo(b"").await),
        direct: false,
        window: WINDOW,
    }
    .start()
    .await;
    let mut offer = pair.cluster.offer("pay");
    offer.endpoints = vec![pair.cluster.endpoint(2), pair.cluster.endpoint(3)];
    pair.client.learns(vec![offer]);
    let text = vec![b'x'; 200_000];
    for _ in 0..10 {
        assert!(ask(pair.listen, &text).await.unwrap() == text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_made_with_a_certificate_that_expired_is_not_used_again() {
    let pair = pair(echo(b"").await).await;
    // over for longer than this side uses it, and still within what the other side accepts
    let ended = SystemTime::now() - CLOCK_SLACK * 3 / 4;
    pair.client.renew(pair.cluster.certificate("web", ended - Duration::from_secs(3600)));
    assert_eq!(ask(pair.listen, b"one").await.unwrap(), b"one");
    let target = Target::Endpoint(pair.cluster.facts.id, WorkloadId(2));
    assert!(pair.client.pool.up(target).is_none());

    pair.client.renew(pair.cluster.certificate("web", SystemTime::now()));
    assert_eq!(ask(pair.listen, b"two").await.unwrap(), b"two");
    let peer = pair.client.pool.up(target).unwrap();
    assert_eq!(ask(pair.listen, b"three").await.unwrap(), b"three");
    assert!(std::sync::Arc::ptr_eq(&peer, &pair.client.pool.up(target).unwrap()));
}
