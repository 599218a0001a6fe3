//! What a sidecar takes on at most, and what whoever comes then is told.

use super::mesh::{SOON, ask, echo, pair, until};
use crate::access::Direction::{Inbound, Outbound};
use crate::hello;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

async fn is_refused(listen: SocketAddr) {
    let error = ask(listen, b"anybody?").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_beyond_the_limit_is_refused_and_the_next_one_is_not() {
    let pair = pair(echo(b"").await).await;
    assert_eq!(ask(pair.listen, b"one").await.unwrap(), b"one");
    // until then it holds its place
    pair.server.ended(Inbound, "done", 1).await;
    let full = pair.server.fill_streams();
    is_refused(pair.listen).await;
    pair.server.ended(Inbound, "overloaded", 1).await;
    pair.client.ended(Outbound, "overloaded", 1).await;
    drop(full);
    assert_eq!(ask(pair.listen, b"two").await.unwrap(), b"two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_connections_are_refused_with_that_reason() {
    let pair = pair(echo(b"").await).await;
    assert_eq!(ask(pair.listen, b"one").await.unwrap(), b"one");
    // until then it holds its descriptor at both ends
    pair.client.ended(Outbound, "done", 1).await;
    pair.server.ended(Inbound, "done", 1).await;
    let full = pair.client.fill_descriptors(true);
    is_refused(pair.listen).await;
    pair.client.ended(Outbound, "no-descriptors", 1).await;
    drop(full);
    let full = pair.server.fill_descriptors(false);
    is_refused(pair.listen).await;
    pair.server.ended(Inbound, "overloaded", 1).await;
    drop(full);
    assert_eq!(ask(pair.listen, b"two").await.unwrap(), b"two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_out_of_the_mesh_takes_a_descriptor_for_each_end() {
    let pair = pair(echo(b"").await).await;
    let all = pair.client.descriptors_left();
    let mut through = pair.client.captured(echo(b"out").await).await;
    through.read_exact(&mut [0; 3]).await.unwrap();
    assert_eq!(pair.client.descriptors_left(), all - 2);
    drop(through);
    pair.client.ended(Outbound, "outside", 1).await;
    until("both descriptors are back", || pair.client.descriptors_left() == all).await;
    // there is one, and it needs two
    let mut rest = pair.client.fill_descriptors(true);
    drop(rest.split(1).unwrap());
    let mut refused = pair.client.captured(echo(b"out").await).await;
    assert!(refused.read(&mut [0]).await.is_err());
    pair.client.ended(Outbound, "no-descriptors", 1).await;
    drop(rest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_beyond_the_limit_is_refused_and_comes_in_later() {
    let pair = pair(echo(b"").await).await;
    let full = pair.server.fill_peers();
    is_refused(pair.listen).await;
    pair.server.refused_peer("overloaded").await;
    drop(full);
    let again = async { while ask(pair.listen, b"two").await.is_err() {} };
    timeout(SOON, again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_says_no_hello_gets_one_stream_until_it_is_shown_out() {
    let pair = pair(echo(b"").await).await;
    let mute = pair.client.mute(&pair.cluster, 2).await;
    let (mut first, _answer) = mute.open_bi().await.unwrap();
    // the length of a message that does not follow
    first.write_all(&[0, 0, 0, 64]).await.unwrap();
    let second = timeout(SOON, mute.open_bi()).await.unwrap();
    assert!(second.is_err(), "a second stream before the hello");
    pair.server.refused_peer("hello-timeout").await;
    assert_eq!(ask(pair.listen, b"one").await.unwrap(), b"one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_a_hello_comes_with_room_for_streams() {
    let mut pair = pair(echo(b"").await).await;
    let domain = pair.cluster.facts.trust_domain.clone();
    let endpoint = pair.server.endpoint.clone();
    let inbound = pair.server.stop_accepting().await;
    let accepted = async { endpoint.accept().await.unwrap().accept().unwrap().await.unwrap() };
    let (client, server) = tokio::join!(pair.client.mute(&pair.cluster, 2), accepted);
    let (member, room) = (&inbound.membership, &inbound.transport);
    // both are of one cluster, so that either's hello does for the other
    let (said, heard) = tokio::join!(
        hello::initiate(&client, member.hello(member.cluster)),
        hello::answer(&server, &domain, member, room),
    );
    said.unwrap();
    heard.unwrap();
    // it has no more to wait for; the place of the hello's own stream is free again by itself, so one more proves nothing
    let mut open = Vec::new();
    for count in 1..=4 {
        let opened = timeout(Duration::ZERO, client.open_bi()).await;
        open.push(opened.unwrap_or_else(|_| panic!("no room for stream {count} after the hello")).unwrap());
    }
}
