//! Live connections when whom a sidecar believes changes.

use super::mesh::{Cluster, Forwarder, Node, Pair, SOON, Setup, WINDOW, application, ask, echo, pair};
use crate::access::Direction::{Inbound, Outbound};
use crate::choose::Target;
use causeway_identity::{ClusterCa, TrustBundle};
use causeway_model::WorkloadId;
use causeway_transport::close_reason_text;
use causeway_wire::CloseCode;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A connection through the mesh, from both applications' sides.
async fn connected(listener: &TcpListener, listen: SocketAddr) -> (TcpStream, TcpStream) {
    let mut client = TcpStream::connect(listen).await.unwrap();
    client.write_all(b"x").await.unwrap();
    let (mut server, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
    timeout(SOON, server.read_exact(&mut [0])).await.unwrap().unwrap();
    (client, server)
}

async fn is_reset(tcp: &mut TcpStream) {
    let error = timeout(SOON, tcp.read(&mut [0])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

async fn still_carries(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"y").await.unwrap();
    timeout(SOON, server.read_exact(&mut [0])).await.unwrap().unwrap();
}

fn target(pair: &Pair) -> Target {
    Target::Endpoint(pair.cluster.facts.id, WorkloadId(2))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_is_revoked_is_cut_at_once() {
    let (listener, addr) = application().await;
    let pair = pair(addr).await;
    let (mut client, mut server) = connected(&listener, pair.listen).await;
    // somebody else's revocation is nothing to it
    pair.server.bundles().set(pair.cluster.bundle(&[pair.cluster.id("other")])).unwrap();
    still_carries(&mut client, &mut server).await;
    let peer = pair.client.pool.up(target(&pair)).unwrap();

    let revoked = Instant::now();
    pair.server.bundles().set(pair.cluster.bundle(&[pair.cluster.id("web")])).unwrap();
    is_reset(&mut client).await;
    is_reset(&mut server).await;
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    pair.server.ended(Inbound, CloseCode::Revoked.reason(), 1).await;
    pair.client.ended(Outbound, CloseCode::Revoked.reason(), 1).await;
    let told = close_reason_text(&timeout(SOON, peer.connection.closed()).await.unwrap());
    assert!(told.contains("revoked") && told.contains(&pair.cluster.id("web").to_string()), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_revoked_is_left_at_once_and_not_used_again() {
    let (listener, addr) = application().await;
    let pair = pair(addr).await;
    let (mut client, mut server) = connected(&listener, pair.listen).await;
    let peer = pair.client.pool.up(target(&pair)).unwrap();

    let revoked = Instant::now();
    pair.client.bundles().set(pair.cluster.bundle(&[pair.cluster.id("pay")])).unwrap();
    is_reset(&mut client).await;
    is_reset(&mut server).await;
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    pair.client.ended(Outbound, CloseCode::Revoked.reason(), 1).await;
    pair.server.ended(Inbound, CloseCode::Revoked.reason(), 1).await;
    assert!(!peer.is_open() && pair.client.pool.up(target(&pair)).is_none());
    assert_eq!(ask(pair.listen, b"again").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    pair.client.ended(Outbound, "tls-failed", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_whose_own_svid_is_revoked_ends_what_it_has_itself() {
    let (listener, addr) = application().await;
    let pair = pair(addr).await;
    let (mut client, mut server) = connected(&listener, pair.listen).await;
    // its peer does not know yet, or nothing that it says arrives
    pair.server.bundles().set(pair.cluster.bundle(&[pair.cluster.id("pay")])).unwrap();
    is_reset(&mut server).await;
    is_reset(&mut client).await;
    pair.server.ended(Inbound, CloseCode::Revoked.reason(), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_is_dropped_ends_no_connection() {
    let (listener, addr) = application().await;
    let pair = pair(addr).await;
    let (mut client, mut server) = connected(&listener, pair.listen).await;
    let next = ClusterCa::create(&pair.cluster.facts.trust_domain, SystemTime::now()).unwrap().bundle();
    for node in [&pair.client, &pair.server] {
        node.bundles().set(next.clone()).unwrap();
    }
    pair.server.trust().judge_all();
    pair.client.trust().judge_all();
    still_carries(&mut client, &mut server).await;
    assert!(pair.client.pool.up(target(&pair)).is_some());
}

/// A client of one cluster, and a server of another that exports to it.
async fn linked(upstream: SocketAddr) -> (Cluster, Cluster, Node, Node, SocketAddr, Forwarder) {
    let (iad, phx) = (Cluster::new("iad", 1), Cluster::new("phx", 2));
    let forwarder = Forwarder::start(&[&iad, &phx]);
    let both = [&iad, &phx];
    let node = |cluster, instance, account, upstream| Setup {
        forwarder: &forwarder,
        cluster,
        instance,
        account,
        believes: &both,
        upstream,
        direct: false,
        window: WINDOW,
    };
    let client = node(&iad, 1, "web", None).start().await;
    let server = node(&phx, 9, "pay", Some(upstream)).start().await;
    server.exports_to(&[&iad]);
    let mut offer = phx.offer("pay");
    offer.endpoints = vec![phx.endpoint(9)];
    client.learns(vec![offer]);
    let listen = client.listen();
    (iad, phx, client, server, listen, forwarder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_removed_ends_its_connections_on_either_side() {
    let (listener, addr) = application().await;
    let (iad, phx, client, server, listen, _forwarder) = linked(addr).await;
    for (node, gone) in [(&server, &iad), (&client, &phx)] {
        let (mut near, mut far) = connected(&listener, listen).await;
        let removed = Instant::now();
        let bundle = node.bundles().get(&gone.facts.trust_domain).unwrap();
        assert!(node.bundles().remove(&gone.facts.trust_domain));
        is_reset(&mut near).await;
        is_reset(&mut far).await;
        assert!(removed.elapsed() < Duration::from_secs(1), "{:?}", removed.elapsed());
        node.bundles().set(TrustBundle::clone(&bundle)).unwrap();
    }
    server.ended(Inbound, CloseCode::NotLinked.reason(), 2).await;
    client.ended(Outbound, CloseCode::NotLinked.reason(), 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_gone_is_not_watched_any_more() {
    let pair = pair(echo(b"").await).await;
    assert_eq!(ask(pair.listen, b"hello").await.unwrap(), b"hello");
    assert_eq!((pair.client.trust().watched(), pair.server.trust().watched()), (1, 1));
    pair.client.vanish();
    super::mesh::until("nobody is watched", || {
        pair.client.trust().watched() + pair.server.trust().watched() == 0
    })
    .await;
}
