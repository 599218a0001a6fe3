//! Connections that nothing is heard of although the gateways answer.

use super::mesh::{Pair, SOON, ask, echo, pair, until};
use crate::access::Direction::{Inbound, Outbound};
use crate::choose::Target;
use crate::peer::Peer;
use causeway_model::WorkloadId;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

fn target(pair: &Pair) -> Target {
    Target::Endpoint(pair.cluster.facts.id, WorkloadId(2))
}

fn up(pair: &Pair) -> Option<Arc<Peer>> {
    pair.client.pool.up(target(pair))
}

async fn read_one(tcp: &mut TcpStream) -> u8 {
    timeout(SOON, tcp.read_u8()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_the_peer_forgot_is_replaced() {
    let pair = pair(echo(b"=").await).await;
    assert_eq!(ask(pair.listen, b"one").await.unwrap(), b"=one");
    let first = up(&pair).unwrap();
    pair.forwarder.cut(true);
    // its goodbye is lost, and with it all that it knows of the connection
    pair.server.gone.say(&pair.cluster, 1);
    until("the server's end of the connection", || pair.server.endpoint.open_connections() == 0).await;
    pair.server.gone.back(&pair.cluster, 1);
    let began = Instant::now();
    let mut waits = TcpStream::connect(pair.listen).await.unwrap();
    until("the doubt", || up(&pair).is_none()).await;
    assert!(first.connection.close_reason().is_none(), "QUIC knows nothing of it");
    pair.forwarder.cut(false);
    // whoever said nothing moves over, and nobody comes to the old one any more
    assert_eq!(read_one(&mut waits).await, b'=');
    assert!(began.elapsed() < Duration::from_secs(5), "within its deadline: {:?}", began.elapsed());
    assert_eq!(ask(pair.listen, b"two").await.unwrap(), b"=two");
    assert!(!Arc::ptr_eq(&first, &up(&pair).unwrap()));
    drop(waits);
    until("the end of the old one", || first.connection.close_reason().is_some()).await;
    until("its memory too", || pair.client.endpoint.open_connections() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_a_connection_in_doubt_go_on_when_it_answers() {
    let pair = pair(echo(b"=").await).await;
    let mut old = TcpStream::connect(pair.listen).await.unwrap();
    assert_eq!(read_one(&mut old).await, b'=');
    let first = up(&pair).unwrap();
    pair.forwarder.cut(true);
    let mut waits = TcpStream::connect(pair.listen).await.unwrap();
    until("the doubt", || up(&pair).is_none()).await;
    old.write_all(b"1").await.unwrap();
    pair.forwarder.cut(false);
    assert_eq!(read_one(&mut waits).await, b'=');
    assert_eq!(read_one(&mut old).await, b'1');
    until("no doubt", || first.is_usable()).await;
    old.write_all(b"2").await.unwrap();
    assert_eq!(read_one(&mut old).await, b'2');
    drop((old, waits));
    pair.client.ended(Outbound, "done", 2).await;
    // at most one is left of the old and the new
    until("the end of one", || pair.client.endpoint.open_connections() == 1).await;
    assert_eq!(ask(pair.listen, b"two").await.unwrap(), b"=two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_shorter_than_the_doubt_replaces_nothing() {
    let pair = pair(echo(b"=").await).await;
    assert_eq!(ask(pair.listen, b"one").await.unwrap(), b"=one");
    let first = up(&pair).unwrap();
    pair.forwarder.cut(true);
    let mut waits = TcpStream::connect(pair.listen).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    pair.forwarder.cut(false);
    assert_eq!(read_one(&mut waits).await, b'=');
    assert!(Arc::ptr_eq(&first, &up(&pair).unwrap()));
    drop(waits);
    pair.server.ended(Inbound, "done", 2).await;
    assert_eq!(pair.client.endpoint.open_connections(), 1);
}
