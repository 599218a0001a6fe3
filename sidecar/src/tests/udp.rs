//! Flows of UDP between two sidecars.

use super::mesh::{Cluster, Forwarder, Node, SOON, Setup, WINDOW, ask, echo, until};
use crate::access::Direction::{Inbound, Outbound};
use causeway_policy::InboundPolicy;
use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// The port that the test's service offers for UDP.
const PORT: u16 = 53;
/// How often a question is repeated that may get lost, as applications do.
const AGAIN: Duration = Duration::from_millis(100);

/// An application that answers what it is told, `tag` first, and where it was asked from.
async fn udp_echo(tag: &'static [u8]) -> (SocketAddr, Arc<Mutex<HashSet<SocketAddr>>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (addr, callers) = (socket.local_addr().unwrap(), Arc::new(Mutex::new(HashSet::new())));
    let seen = Arc::clone(&callers);
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            seen.lock().unwrap().insert(from);
            let _ = socket.send_to(&[tag, &buffer[..length]].concat(), from).await;
        }
    });
    (addr, callers)
}

/// A port of this host where nobody listens.
fn nobody() -> SocketAddr {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A client's sidecar and those of servers, each with its application, and where the first takes datagrams.
struct World {
    client: Node,
    servers: Vec<Node>,
    cluster: Cluster,
    forwarder: Forwarder,
    listen: SocketAddr,
}

async fn world(upstreams: &[Option<SocketAddr>], limits: &str) -> World {
    let cluster = Cluster::new("iad", 1);
    let forwarder = Forwarder::start(&[&cluster]);
    let believes = [&cluster];
    let node = |instance, account, upstream| Setup {
        forwarder: &forwarder,
        cluster: &cluster,
        instance,
        account,
        believes: &believes,
        upstream,
        direct: false,
        window: WINDOW,
    };
    let client = node(1, "web", None).start_with(limits).await;
    let (mut servers, mut offer) = (Vec::new(), cluster.offer("pay"));
    for (instance, upstream) in (2..).zip(upstreams) {
        servers.push(node(instance, "pay", *upstream).start().await);
        offer.endpoints.push(cluster.endpoint(instance));
    }
    client.learns(vec![offer]);
    let listen = client.listen_udp(PORT);
    World { client, servers, listen, cluster, forwarder }
}

/// An application that sends to `addr`.
async fn caller(addr: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(addr).await.unwrap();
    socket
}

async fn answer(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let length = timeout(SOON, socket.recv(&mut buffer)).await.expect("an answer in time").unwrap();
    buffer.truncate(length);
    buffer
}

/// What is answered to `question`, which is repeated until it is.
async fn insist(socket: &UdpSocket, question: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let talk = async {
        loop {
            socket.send(question).await.unwrap();
            if let Ok(length) = timeout(AGAIN, socket.recv(&mut buffer)).await {
                return length.unwrap();
            }
        }
    };
    let length = timeout(SOON, talk).await.expect("an answer in time");
    buffer.truncate(length);
    buffer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_of_every_size_cross_both_ways() {
    let (app, callers) = udp_echo(b"").await;
    let world = world(&[Some(app)], "").await;
    let socket = caller(world.listen).await;
    for round in 0..20u8 {
        for size in [1, 0, 1400, 9000, 65_507] {
            let payload = vec![round; size];
            socket.send(&payload).await.unwrap();
            assert_eq!(answer(&socket).await, payload, "{size} bytes");
        }
    }
    let callers = callers.lock().unwrap().clone();
    assert_eq!(callers.len(), 1, "one flow has one socket");
    assert!(callers.iter().all(|from| from.ip().to_string() == "127.0.0.6"));
    for (node, direction) in [(&world.client, "outbound"), (&world.servers[0], "inbound")] {
        let metric = |name: &str| node.metric(&format!("udp_{name}{{direction=\"{direction}\"}}"));
        assert_eq!((metric("flows_total"), metric("flows_open")), (1, 1));
        // what was delivered is counted a moment later
        let counted =
            || (metric("to_mesh_datagrams_total"), metric("from_mesh_datagrams_total")) == (100, 100);
        until("100 datagrams each way", counted).await;
        let bytes = 20 * (1 + 1400 + 9000 + 65_507);
        assert_eq!((metric("to_mesh_bytes_total"), metric("from_mesh_bytes_total")), (bytes, bytes));
    }
    assert_eq!(world.client.metric("sidecar_connections_open{direction=\"outbound\"}"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_usual_payload_takes_no_stream() {
    let (app, _) = udp_echo(b"").await;
    let world = world(&[Some(app)], "").await;
    let socket = caller(world.listen).await;
    let streamed = || {
        let client = world.client.metric("udp_streamed_datagrams_total{direction=\"outbound\"}");
        client + world.servers[0].metric("udp_streamed_datagrams_total{direction=\"inbound\"}")
    };
    // until the flow is accepted, and both ends know how much the path carries
    let talk = async {
        let mut before = u64::MAX;
        while streamed() != before {
            before = streamed();
            assert_eq!(insist(&socket, &[7; 1400]).await.len(), 1400);
        }
    };
    timeout(SOON, talk).await.expect("1,400 bytes fit in a datagram");
    assert!(streamed() > 0, "the first ones took it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_said_at_once_arrives() {
    let (app, _) = udp_echo(b"").await;
    let world = world(&[Some(app)], "").await;
    let socket = caller(world.listen).await;
    // nothing is connected yet: all of it waits for the handshake. More would not fit in the buffers of the applications
    for number in 0..50u8 {
        socket.send(&[&[number][..], &[7; 1399]].concat()).await.unwrap();
    }
    // in any order: what went by the stream at first may be overtaken by datagrams
    let mut answers = std::collections::BTreeSet::new();
    for _ in 0..50 {
        answers.insert(answer(&socket).await[0]);
    }
    assert_eq!(answers, (0..50).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_flows_get_their_own_answers() {
    let (app, callers) = udp_echo(b"").await;
    let world = world(&[Some(app)], "").await;
    let mut sockets = Vec::new();
    for number in 0..200u32 {
        let socket = caller(world.listen).await;
        socket.send(&number.to_be_bytes()).await.unwrap();
        sockets.push(socket);
    }
    for (number, socket) in (0..200u32).zip(&sockets) {
        assert_eq!(answer(socket).await, number.to_be_bytes());
    }
    assert_eq!(callers.lock().unwrap().len(), 200);
    assert_eq!(world.client.metric("udp_flows_open{direction=\"outbound\"}"), 200);
    assert_eq!(world.servers[0].metric("udp_flows_open{direction=\"inbound\"}"), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_flow_ends_on_both_sides_and_what_comes_later_begins_another() {
    let (app, callers) = udp_echo(b"").await;
    let world = world(&[Some(app)], "udp-idle-timeout = \"1s\"").await;
    let socket = caller(world.listen).await;
    assert_eq!(insist(&socket, b"one").await, b"one");
    world.client.ended(Outbound, "idle", 1).await;
    world.servers[0].ended(Inbound, "done", 1).await;
    let open = || world.servers[0].metric("udp_flows_open{direction=\"inbound\"}");
    until("the server's socket is closed", || open() == 0).await;
    assert_eq!(insist(&socket, b"two").await, b"two");
    assert_eq!(callers.lock().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_served_is_refused_and_not_asked_for_each_payload() {
    let world = world(&[None], "").await;
    let socket = caller(world.listen).await;
    socket.send(b"anybody?").await.unwrap();
    world.client.ended(Outbound, "service-unknown", 1).await;
    world.servers[0].ended(Inbound, "service-unknown", 1).await;
    for _ in 0..50 {
        socket.send(b"anybody?").await.unwrap();
    }
    let dropped = "udp_dropped_datagrams_total{direction=\"outbound\",reason=\"flow-refused\"}";
    until("they are dropped", || world.client.metric(dropped) >= 40).await;
    assert!(world.client.metric("udp_flows_total{direction=\"outbound\"}") <= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_and_connections_do_not_reach_each_others_ports() {
    let world = world(&[Some(echo(b"").await)], "").await;
    // the service's port for connections
    let socket = caller(world.client.listen_udp(80)).await;
    socket.send(b"datagram").await.unwrap();
    world.client.ended(Outbound, "port-unknown", 1).await;
    assert_eq!(ask(world.client.listen(), b"connection").await.unwrap(), b"connection");
    assert_eq!(world.servers[0].metric("udp_flows_total{direction=\"inbound\"}"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_ends_when_its_peer_may_not_have_it_any_more() {
    let (app, _) = udp_echo(b"").await;
    let world = world(&[Some(app)], "").await;
    let socket = caller(world.listen).await;
    assert_eq!(insist(&socket, b"one").await, b"one");
    let own = world.cluster.facts.trust_domain.clone();
    let nothing = InboundPolicy::new(own, BTreeMap::new(), BTreeMap::new());
    world.servers[0].exports.send_replace(Arc::new(nothing));
    world.servers[0].ended(Inbound, "service-unknown", 1).await;
    world.client.ended(Outbound, "service-unknown", 1).await;
    world.servers[0].exports_to(&[]);
    assert_eq!(insist(&socket, b"two").await, b"two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_application_listens_another_endpoint_gets_what_follows() {
    let (app, _) = udp_echo(b"two:").await;
    let lonely = world(&[Some(nobody())], "").await;
    let socket = caller(lonely.listen).await;
    socket.send(b"anybody?").await.unwrap();
    lonely.servers[0].ended(Inbound, "upstream-refused", 1).await;
    lonely.client.ended(Outbound, "upstream-refused", 1).await;
    let both = world(&[Some(nobody()), Some(app)], "").await;
    for _ in 0..5 {
        let socket = caller(both.listen).await;
        assert_eq!(insist(&socket, b"hello").await, b"two:hello");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_gone_is_replaced_by_another() {
    let ((one, _), (two, _)) = (udp_echo(b"").await, udp_echo(b"").await);
    let world = world(&[Some(one), Some(two)], "").await;
    let socket = caller(world.listen).await;
    assert_eq!(insist(&socket, b"one").await, b"one");
    let open = |node: &Node| node.metric("udp_flows_open{direction=\"inbound\"}");
    let used = world.servers.iter().position(|server| open(server) == 1).expect("a flow");
    world.servers[used].vanish();
    world.client.ended(Outbound, "going-away", 1).await;
    assert_eq!(insist(&socket, b"two").await, b"two");
    assert_eq!(open(&world.servers[1 - used]), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_flows_is_bounded() {
    let (app, _) = udp_echo(b"").await;
    let world = world(&[Some(app)], "max-flows = 10").await;
    let mut sockets = Vec::new();
    for number in 0..50u8 {
        let socket = caller(world.listen).await;
        socket.send(&[number]).await.unwrap();
        sockets.push(socket);
    }
    let dropped = "udp_dropped_datagrams_total{direction=\"outbound\",reason=\"max-flows\"}";
    until("forty are dropped", || world.client.metric(dropped) == 40).await;
    assert_eq!(world.client.metric("udp_flows_open{direction=\"outbound\"}"), 10);
    for (number, socket) in (0..10u8).zip(&sockets) {
        assert_eq!(answer(socket).await, [number]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_connection_is_bounded() {
    let (app, _) = udp_echo(b"").await;
    let world = world(&[Some(app)], "").await;
    world.forwarder.cut(true);
    let socket = caller(world.listen).await;
    for number in 0..2000u32 {
        socket.send(&number.to_be_bytes()).await.unwrap();
        if number % 50 == 0 {
            // the socket to the sidecar is no queue of this test
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let dropped = "udp_dropped_datagrams_total{direction=\"outbound\",reason=\"queue-full\"}";
    until("most of the second thousand are dropped", || world.client.metric(dropped) > 900).await;
    world.forwarder.cut(false);
    assert_eq!(answer(&socket).await, 0u32.to_be_bytes(), "the first that waited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_does_not_wait_for_flows_that_are_over() {
    let (app, _) = udp_echo(b"").await;
    let mut world = world(&[Some(app)], "").await;
    let socket = caller(world.listen).await;
    assert_eq!(insist(&socket, b"one").await, b"one");
    let server = world.servers.remove(0);
    let outcome = timeout(SOON, server.trigger.drain(SOON)).await.unwrap();
    assert!(outcome.finished, "{outcome:?}");
    world.client.ended(Outbound, "done", 1).await;
}
