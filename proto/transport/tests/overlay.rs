//! Connections over the overlay, through gateways that come and go.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use causeway_model::{ServiceHandle, WorkloadId};
use causeway_transport::{
    ConnectionKind, Destination, GatewayTarget, HELLO_WINDOW, SendStream, TransportSettings, alpn, close,
    close_reason, exporter, peer_identity, virtual_addr,
};
use causeway_wire::CloseCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{FakeGateway, Identities, NAME, Pair, Sidecar, until};

/// Writes to `stream` until `stop` bytes were written or the stream breaks.
async fn pour(mut stream: SendStream, stop: Arc<AtomicU64>) -> Result<u64, String> {
    let chunk = vec![0x5a; 64 << 10];
    let mut written = 0;
    while written < stop.load(Ordering::Relaxed) {
        stream.write_all(&chunk).await.map_err(|error| error.to_string())?;
        written += chunk.len() as u64;
    }
    stream.finish().map_err(|error| error.to_string())?;
    stream.stopped().await.map_err(|error| error.to_string())?;
    Ok(written)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sidecars_authenticate_each_other_through_gateways() {
    let pair = Pair::connected().await;
    assert_eq!(peer_identity(&pair.client).unwrap(), pair.identities.id("b"));
    assert_eq!(peer_identity(&pair.server).unwrap(), pair.identities.id("a"));
    assert_eq!(alpn(&pair.client).as_deref(), Some(&b"causeway-data/1"[..]));
    assert_eq!(pair.client.remote_address(), virtual_addr());
    let key = exporter(&pair.client, b"label", b"context").unwrap();
    assert_eq!(key, exporter(&pair.server, b"label", b"context").unwrap());
    assert_ne!(key, exporter(&pair.server, b"label", b"other").unwrap());
    assert_eq!((pair.a.endpoint.open_connections(), pair.b.endpoint.open_connections()), (1, 1));

    // the same endpoint again: its id is another connection's first flight
    let (second, _server) = pair.a.connect(&pair.b, pair.identities.client("a", "b")).await;
    assert_eq!(pair.a.endpoint.open_connections(), 2);
    close(&second, CloseCode::Done, "");

    // the other way round, by a service's handle
    let destination = Destination::Service { cluster: support::cluster(), handle: ServiceHandle(10) };
    let tls = pair.identities.client("b", "a");
    let connecting = pair.b.endpoint.connect(destination, tls, NAME, ConnectionKind::Data).unwrap();
    let accepted = async { pair.a.endpoint.accept().await.unwrap().await };
    let (client, _server) = tokio::join!(connecting, accepted);
    close(&client.unwrap(), CloseCode::Done, "");
    close(&pair.client, CloseCode::GoingAway, "stopping");
    assert_eq!(close_reason(&pair.server.closed().await), "going-away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_may_say_little_until_it_is_let_in() {
    let (pair, soon) = (Pair::connected().await, Duration::from_secs(10));
    let a_while = Duration::from_millis(200);
    let (client, server) = pair.a.handshake(&pair.b, pair.identities.client("a", "b")).await;
    let (mut send, _receive) = client.open_bi().await.unwrap();
    let said = vec![7; HELLO_WINDOW as usize + 1];
    let mut saying = std::pin::pin!(send.write_all(&said));
    assert!(tokio::time::timeout(a_while, &mut saying).await.is_err());
    let mut opening = std::pin::pin!(client.open_bi());
    assert!(tokio::time::timeout(a_while, &mut opening).await.is_err());
    TransportSettings::default().let_in(&server);
    tokio::time::timeout(soon, saying).await.unwrap().unwrap();
    tokio::time::timeout(soon, opening).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_outlives_the_gateway_it_went_through() {
    let pair = Pair::connected().await;
    let end = Arc::new(AtomicU64::new(u64::MAX));
    let (send, _) = pair.client.open_bi().await.unwrap();
    let writer = tokio::spawn(pour(send, Arc::clone(&end)));
    let received = Arc::new(AtomicU64::new(0));
    let (_, mut stream) = pair.server.accept_bi().await.unwrap();
    let count = Arc::clone(&received);
    let reader = tokio::spawn(async move {
        while let Some(chunk) = stream.read_chunk(1 << 20, true).await.map_err(|error| error.to_string())? {
            count.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
        }
        Ok::<(), String>(())
    });
    let got = |more: u64| {
        let received = Arc::clone(&received);
        let goal = received.load(Ordering::Relaxed) + more;
        move || received.load(Ordering::Relaxed) >= goal
    };
    until("the transfer runs", got(4 << 20)).await;

    let busiest =
        pair.gateways.iter().max_by_key(|gateway| gateway.forwarded.load(Ordering::Relaxed)).unwrap();
    busiest.stopped.store(true, Ordering::Relaxed);
    let stopped = Instant::now();
    // what was in flight still arrives: the transfer goes on when more than the windows hold has
    until("a gateway in use is missed", || pair.a.overlay.switches() + pair.b.overlay.switches() > 0).await;
    until("the transfer goes on", got(64 << 10)).await;
    let stall = stopped.elapsed();
    assert!(stall < Duration::from_millis(500), "the transfer stalled for {stall:?}");
    let alive = |side: &Sidecar| side.overlay.gateways().iter().filter(|status| status.alive).count();
    until("both sides use the other gateway", || alive(&pair.a) == 1 && alive(&pair.b) == 1).await;

    busiest.stopped.store(false, Ordering::Relaxed);
    until("the gateway is back", || alive(&pair.a) == 2 && alive(&pair.b) == 2).await;
    until("the transfer goes on with both", got(1 << 20)).await;
    end.store(0, Ordering::Relaxed);
    let written = writer.await.unwrap().unwrap();
    reader.await.unwrap().unwrap();
    assert_eq!(received.load(Ordering::Relaxed), written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_goes_on_when_the_last_gateway_comes_back() {
    let pair = Pair::connected().await;
    let mut alive = pair.a.overlay.any_alive();
    assert!(*alive.borrow_and_update());
    for gateway in &pair.gateways {
        gateway.stopped.store(true, Ordering::Relaxed);
    }
    let (mut send, _) = pair.client.open_bi().await.unwrap();
    send.write_all(b"hello").await.unwrap();
    alive.wait_for(|alive| !alive).await.unwrap();
    for gateway in &pair.gateways {
        gateway.stopped.store(false, Ordering::Relaxed);
    }
    let (_, mut receive) = pair.server.accept_bi().await.unwrap();
    let mut hello = [0; 5];
    receive.read_exact(&mut hello).await.unwrap();
    alive.wait_for(|alive| *alive).await.unwrap();
}

#[tokio::test]
async fn a_gateway_that_was_started_again_is_seen_even_if_no_answer_is_missed() {
    let gateway = FakeGateway::start(1).await;
    let sidecar = Sidecar::start(10, None).with_gateways(&[&gateway]).await;
    let status = || sidecar.overlay.gateways()[0].clone();
    assert_eq!((status().alive, status().generation), (true, 0));
    gateway.restart();
    until("the new process has admitted the sidecar", || status().generation == 1 && status().alive).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_side_that_connected_opens_streams() {
    let pair = Pair::connected().await;
    let opened = tokio::time::timeout(Duration::from_millis(50), pair.server.open_bi()).await;
    assert!(opened.is_err(), "{opened:?}");
    echo(&pair).await;
}

#[tokio::test]
async fn packets_from_strangers_are_dropped_and_counted() {
    let gateway = FakeGateway::start(1).await;
    let sidecar = Sidecar::start(10, None).with_gateways(&[&gateway]).await;
    let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let metrics = sidecar.overlay.metrics();
    for packet in [&[0x40; 100][..], &[0x02; 64], &[0xc0; 1200]] {
        stranger.send_to(packet, sidecar.overlay.local_addr()).await.unwrap();
    }
    until("three packets are counted", || metrics.foreign_source.get() == 3).await;
    assert_eq!(metrics.received_datagrams.get(), 0);
}

#[tokio::test]
async fn answers_with_a_wrong_tag_make_no_gateway_alive() {
    let gateway = FakeGateway::start(1).await;
    gateway.forges.store(true, Ordering::Relaxed);
    let sidecar = Sidecar::start(10, None);
    sidecar.overlay.set_gateways(vec![gateway.target()]);
    let metrics = sidecar.overlay.metrics();
    until("forged answers are refused", || metrics.probes_refused.get() >= 2).await;
    assert_eq!(metrics.probes_answered.get(), 0);
    assert!(!*sidecar.overlay.any_alive().borrow());
    gateway.forges.store(false, Ordering::Relaxed);
    until("true answers are taken", || *sidecar.overlay.any_alive().borrow()).await;
    let status = &sidecar.overlay.gateways()[0];
    assert!(status.alive && status.srtt.is_some() && status.last_answer.is_some());
    assert_eq!((status.node, status.addr), (gateway.node, gateway.addr));
}

#[tokio::test]
async fn the_first_address_that_answers_stands_for_the_gateway() {
    let gateway = FakeGateway::start(1).await;
    let silent = FakeGateway::start(2).await;
    silent.stopped.store(true, Ordering::Relaxed);
    // dual stack: the gateway is an IPv4 one
    let settings = TransportSettings::default();
    let sidecar = Sidecar::start_on("[::]:0", 10, None, &settings);
    sidecar
        .overlay
        .set_gateways(vec![GatewayTarget { node: gateway.node, addrs: vec![silent.addr, gateway.addr] }]);
    until("the second address answers", || sidecar.overlay.gateways()[1].alive).await;
    assert_eq!(sidecar.overlay.gateways()[1].addr, gateway.addr);
    assert!(!sidecar.overlay.gateways()[0].alive);
    assert_eq!(sidecar.overlay.metrics().gateways_alive.get(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_way_is_used_once_it_has_answered_and_left_when_it_stops() {
    let pair = Pair::connected().await;
    let (a, b) = (&pair.a.overlay, &pair.b.overlay);
    let key = exporter(&pair.client, b"direct", b"").unwrap();
    a.set_direct(WorkloadId(11), b.local_addr(), key);
    // b does not know a's address yet: it answers no probe from there, and a goes on by gateways
    until("b drops a's probes", || b.metrics().foreign_source.get() > 0).await;
    echo(&pair).await;
    assert!(!a.is_direct(WorkloadId(11)));
    assert_eq!(a.metrics().direct_datagrams.get(), 0);

    b.set_direct(WorkloadId(10), a.local_addr(), key);
    until("both go straight", || a.is_direct(WorkloadId(11)) && b.is_direct(WorkloadId(10))).await;
    echo(&pair).await;
    assert!(a.metrics().direct_datagrams.get() > 0);
    until("b goes straight, too", || b.metrics().direct_datagrams.get() > 0).await;

    b.remove_direct(WorkloadId(10));
    assert!(!b.is_direct(WorkloadId(10)));
    echo(&pair).await;
    until("a is back with the gateways", || !a.is_direct(WorkloadId(11))).await;
    echo(&pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_way_under_another_key_is_not_used() {
    let pair = Pair::connected().await;
    let (a, b) = (&pair.a.overlay, &pair.b.overlay);
    a.set_direct(WorkloadId(11), b.local_addr(), [1; 32]);
    b.set_direct(WorkloadId(10), a.local_addr(), [2; 32]);
    until("the probes are refused", || {
        a.metrics().probes_refused.get() > 0 && b.metrics().probes_refused.get() > 0
    })
    .await;
    assert!(!a.is_direct(WorkloadId(11)) && !b.is_direct(WorkloadId(10)));
}

/// One stream there and back.
async fn echo(pair: &Pair) {
    let (mut send, mut receive) = pair.client.open_bi().await.unwrap();
    send.write_all(b"ping").await.unwrap();
    send.finish().unwrap();
    let (mut back, mut there) = pair.server.accept_bi().await.unwrap();
    back.write_all(&there.read_to_end(16).await.unwrap()).await.unwrap();
    back.finish().unwrap();
    assert_eq!(receive.read_to_end(16).await.unwrap(), b"ping");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_path_carries_the_largest_datagrams() {
    let settings = TransportSettings { datagram_size: 8900, ..TransportSettings::default() };
    let identities = Identities::new();
    let gateway = FakeGateway::start(1).await;
    let a = Sidecar::start_on("127.0.0.1:0", 10, None, &settings).with_gateways(&[&gateway]).await;
    let server = Some(identities.server("b"));
    let b = Sidecar::start_on("127.0.0.1:0", 11, server, &settings).with_gateways(&[&gateway]).await;
    let (client, server) = a.connect(&b, identities.client("a", "b")).await;
    until("path MTU discovery ends", || client.stats().path.current_mtu > 8800).await;
    let (mut send, _) = client.open_bi().await.unwrap();
    let writer = tokio::spawn(async move {
        send.write_all(&vec![1; 8 << 20]).await.unwrap();
        send.finish().unwrap();
        send.stopped().await.unwrap();
    });
    let (_, mut receive) = server.accept_bi().await.unwrap();
    assert_eq!(receive.read_to_end(16 << 20).await.unwrap().len(), 8 << 20);
    writer.await.unwrap();
    assert_eq!(a.overlay.metrics().unrouted.get(), 0);
}
