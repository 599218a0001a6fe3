//! What the end of one side means on the other.

use super::mesh::{SOON, application, ask, pair, until};
use crate::access::Access;
use crate::access::Direction::{Inbound, Outbound};
use crate::choose::Target;
use crate::metrics::SidecarMetrics;
use crate::relay::{Begun, End, Stream, relay};
use causeway_model::WorkloadId;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A connection through the mesh, from both applications' sides.
async fn connected(listener: &TcpListener, listen: std::net::SocketAddr) -> (TcpStream, TcpStream) {
    let mut client = TcpStream::connect(listen).await.unwrap();
    client.write_all(b"first").await.unwrap();
    let (mut server, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
    let mut first = [0; 5];
    timeout(SOON, server.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(&first, b"first");
    (client, server)
}

async fn is_reset(tcp: &mut TcpStream) {
    let mut rest = Vec::new();
    let error = timeout(SOON, tcp.read_to_end(&mut rest)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_side_may_finish_first() {
    let (listener, addr) = application().await;
    let pair = pair(addr).await;
    let (mut client, mut server) = connected(&listener, pair.listen).await;
    client.shutdown().await.unwrap();
    let mut got = Vec::new();
    timeout(SOON, server.read_to_end(&mut got)).await.unwrap().unwrap();
    // the other direction still works
    server.write_all(b"answer").await.unwrap();
    server.shutdown().await.unwrap();
    timeout(SOON, client.read_to_end(&mut got)).await.unwrap().unwrap();
    assert_eq!(got, b"answer");

    let (mut client, mut server) = connected(&listener, pair.listen).await;
    server.write_all(b"bye").await.unwrap();
    server.shutdown().await.unwrap();
    let mut got = Vec::new();
    timeout(SOON, client.read_to_end(&mut got)).await.unwrap().unwrap();
    assert_eq!(got, b"bye");
    client.write_all(b"late").await.unwrap();
    client.shutdown().await.unwrap();
    got.clear();
    timeout(SOON, server.read_to_end(&mut got)).await.unwrap().unwrap();
    assert_eq!(got, b"late");
    pair.client.ended(Outbound, "done", 2).await;
    pair.server.ended(Inbound, "done", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_crosses_the_mesh_both_ways() {
    let (listener, addr) = application().await;
    let pair = pair(addr).await;
    let (client, mut server) = connected(&listener, pair.listen).await;
    client.set_zero_linger().unwrap();
    drop(client);
    is_reset(&mut server).await;

    let (mut client, server) = connected(&listener, pair.listen).await;
    server.set_zero_linger().unwrap();
    drop(server);
    is_reset(&mut client).await;

    // also when this side has finished, so that nobody reads it any more
    let (mut client, mut server) = connected(&listener, pair.listen).await;
    client.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(SOON, server.read_to_end(&mut rest)).await.unwrap().unwrap();
    client.set_zero_linger().unwrap();
    drop(client);
    let write = async { while server.write_all(b"x").await.is_ok() {} };
    pair.client.ended(Outbound, "tcp-reset", 3).await;
    timeout(SOON, write).await.unwrap();
    pair.client.ended(Outbound, "tcp-reset", 3).await;
    pair.server.ended(Inbound, "tcp-reset", 3).await;
}

/// Writes until nobody takes more.
async fn fill(tcp: &mut TcpStream) {
    let chunk = vec![7; 256 << 10];
    while timeout(Duration::from_millis(500), tcp.write(&chunk)).await.is_ok() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_after_the_end_reaches_a_peer_that_says_nothing() {
    let (listener, addr) = application().await;
    let pair = pair(addr).await;
    let (mut client, mut server) = connected(&listener, pair.listen).await;
    server.shutdown().await.unwrap();
    timeout(SOON, client.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    server.set_zero_linger().unwrap();
    drop(server);
    pair.server.ended(Inbound, "tcp-reset", 1).await;
    pair.client.ended(Outbound, "tcp-reset", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_noticed_while_the_other_application_reads_nothing() {
    let (listener, addr) = application().await;
    let pair = pair(addr).await;
    let (mut client, _server) = connected(&listener, pair.listen).await;
    fill(&mut client).await;
    client.set_zero_linger().unwrap();
    drop(client);
    pair.client.ended(Outbound, "tcp-reset", 1).await;
    pair.server.ended(Inbound, "tcp-reset", 1).await;

    let (_client, mut server) = connected(&listener, pair.listen).await;
    fill(&mut server).await;
    pair.server.vanish();
    pair.client.ended(Outbound, "going-away", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrived_whole_outlives_its_connection() {
    let (listener, addr) = application().await;
    let pair = pair(addr).await;
    let (mut client, mut server) = connected(&listener, pair.listen).await;
    client.shutdown().await.unwrap();
    let sent = vec![9; 6 << 20];
    let count = sent.len();
    let writer = tokio::spawn(async move { server.write_all(&sent).await });
    let mut got = Vec::new();
    let slowly = async {
        let mut part = vec![0; 64 << 10];
        loop {
            let read = client.read(&mut part).await.unwrap();
            got.extend_from_slice(&part[..read]);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // what is left then is in the sockets on the way, and in the stream's window
    tokio::select! {
        () = pair.server.ended(Inbound, "done", 1) => {}
        () = slowly => {}
    }
    writer.await.unwrap().unwrap();
    pair.server.vanish();
    timeout(SOON, client.read_to_end(&mut got)).await.unwrap().unwrap();
    assert_eq!(got.len(), count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_an_instance_that_is_gone_are_reset() {
    let (listener, addr) = application().await;
    let pair = pair(addr).await;
    let (mut client, mut server) = connected(&listener, pair.listen).await;
    let began = std::time::Instant::now();
    pair.client.gone.say(&pair.cluster, 2);
    is_reset(&mut client).await;
    is_reset(&mut server).await;
    assert!(began.elapsed() < Duration::from_secs(2));
    pair.server.ended(Inbound, "instance-gone", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_a_connection_that_ends_are_reset() {
    let (listener, addr) = application().await;
    let pair = pair(addr).await;
    let (mut client, mut server) = connected(&listener, pair.listen).await;
    pair.server.vanish();
    is_reset(&mut client).await;
    is_reset(&mut server).await;
    pair.client.ended(Outbound, "going-away", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_takes_nothing_new_and_lets_the_rest_finish() {
    let (listener, addr) = application().await;
    let pair = pair(addr).await;
    let (mut client, mut server) = connected(&listener, pair.listen).await;
    let drain = pair.server.drain();
    let draining = tokio::spawn(async move {
        let outcome = pair.server.trigger.drain(SOON).await;
        (pair, outcome)
    });
    until("the drain", || drain.is_draining()).await;
    // the only endpoint there is refuses
    let refused = ask(client.peer_addr().unwrap(), b"late").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionReset);
    server.write_all(b"still here").await.unwrap();
    server.shutdown().await.unwrap();
    client.shutdown().await.unwrap();
    let mut got = Vec::new();
    timeout(SOON, client.read_to_end(&mut got)).await.unwrap().unwrap();
    assert_eq!(got, b"still here");
    drop((client, server));
    let (pair, outcome) = timeout(SOON, draining).await.unwrap().unwrap();
    assert!(outcome.finished, "{outcome:?}");
    drop(pair);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_not_heard_of_the_drain_is_served_until_it_closes() {
    let pair = pair(super::mesh::echo(b"").await).await;
    pair.server.trigger.begin();
    assert_eq!(ask(pair.listen, b"one").await.unwrap(), b"one");
    assert!(pair.server.trigger.drain(SOON).await.finished);
    let refused = ask(pair.listen, b"two").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionReset);
    pair.server.ended(Inbound, "draining", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_carries_nothing_is_reset_in_time() {
    const LIMIT: Duration = Duration::from_millis(400);
    let (listener, addr) = application().await;
    let pair = pair(addr).await;
    let (_client, _server) = connected(&listener, pair.listen).await;
    let target = Target::Endpoint(pair.cluster.facts.id, WorkloadId(2));
    let halves = pair.client.pool.up(target).unwrap().connection.open_bi().await.unwrap();
    let mut stream = Stream::new(halves);
    let mut client = TcpStream::connect(addr).await.unwrap();
    let (tcp, _) = listener.accept().await.unwrap();
    let metrics = SidecarMetrics::new();
    let access = Access::begin(Outbound, &metrics, pair.client.drain().guard());
    let busy = async {
        // what is said in time puts it off
        for _ in 0..3 {
            tokio::time::sleep(LIMIT / 2).await;
            client.write_all(b"x").await.unwrap();
        }
        std::time::Instant::now()
    };
    let relayed = relay(&tcp, &mut stream, Begun::default(), &access.meter, LIMIT);
    let (end, last) = timeout(SOON, async { tokio::join!(relayed, busy) }).await.unwrap();
    assert_eq!((end, end.reason()), (End::Idle, "idle-timeout"));
    assert!(last.elapsed() + Duration::from_millis(20) >= LIMIT, "{:?}", last.elapsed());
    drop(tcp);
    is_reset(&mut client).await;
}
