//! Bytes: all of them, in order, no more than fit, over many streams.

use super::mesh::{SOON, Setup, WINDOW, application, ask, echo, pair, pair_of, pair_with, until};
use crate::access::Direction::Outbound;
use crate::choose::Target;
use causeway_model::WorkloadId;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_arrives_whole_both_ways() {
    let pair = pair(echo(b"").await).await;
    let sent = pattern(16 << 20);
    let tcp = TcpStream::connect(pair.listen).await.unwrap();
    let (mut read, mut write) = tcp.into_split();
    let copy = sent.clone();
    let writer = tokio::spawn(async move {
        write.write_all(&copy).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    timeout(SOON, read.read_to_end(&mut got)).await.unwrap().unwrap();
    writer.await.unwrap();
    assert!(got == sent, "{} bytes", got.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_count_for_their_source_and_destination() {
    let pair = pair(echo(b"").await).await;
    for _ in 0..2 {
        assert_eq!(ask(pair.listen, b"hello").await.unwrap(), b"hello");
    }
    for (node, direction) in [(&pair.client, "outbound"), (&pair.server, "inbound")] {
        let of = format!(
            "direction=\"{direction}\",source=\"spiffe://iad.mesh/ns/shop/sa/web\",destination=\"pay.shop\""
        );
        for (name, value) in [
            ("outcomes_total{OF,reason=\"done\"}", 2),
            ("connections_total{OF}", 2),
            ("to_mesh_bytes_total{OF}", 10),
            ("from_mesh_bytes_total{OF}", 10),
            ("duration_seconds_count{OF}", 2),
            ("connect_seconds_count{OF}", 2),
        ] {
            let name = name.replace("OF", &of);
            node.shows(&format!("causeway_sidecar_service_{name} {value}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_up_the_writer() {
    let (listener, addr) = application().await;
    let pair = pair(addr).await;
    let mut client = TcpStream::connect(pair.listen).await.unwrap();
    let chunk = pattern(64 << 10);
    let mut taken = 0;
    // as long as something moves within a second there is still room somewhere
    while let Ok(written) = timeout(Duration::from_secs(1), client.write(&chunk)).await {
        taken += written.unwrap();
        assert!(taken < 64 << 20, "the mesh holds {taken} bytes for a reader that reads nothing");
    }
    let (mut server, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
    client.shutdown().await.unwrap();
    let mut count = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match timeout(SOON, server.read(&mut buffer)).await.unwrap().unwrap() {
            0 => break,
            read => count += read,
        }
    }
    assert_eq!(count, taken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_share_one_connection() {
    let pair = pair(echo(b"").await).await;
    let mut open = Vec::new();
    for number in 0..1000u32 {
        let mut tcp = TcpStream::connect(pair.listen).await.unwrap();
        tcp.write_all(&number.to_be_bytes()).await.unwrap();
        open.push(tcp);
    }
    let mut echoes = JoinSet::new();
    for (number, mut tcp) in (0u32..).zip(open) {
        echoes.spawn(async move {
            let mut got = [0; 4];
            tcp.read_exact(&mut got).await.unwrap();
            assert_eq!(got, number.to_be_bytes());
            tcp
        });
    }
    let open = timeout(SOON, echoes.join_all()).await.unwrap();
    let target = Target::Endpoint(pair.cluster.facts.id, WorkloadId(2));
    assert_eq!(pair.client.pool.load(target), 1000);
    assert_eq!((pair.client.endpoint.open_connections(), pair.server.endpoint.open_connections()), (1, 1));
    // what waits is the relay, on both sides: a stream that is idle holds little more than its state
    let sizes = pair.client.task_sizes(target).await;
    assert!(sizes.0 < 4096 && sizes.1 < 4096, "{sizes:?}");
    drop(open);
    pair.client.ended(Outbound, "done", 1000).await;
    assert_eq!(pair.client.pool.load(target), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_of_a_cluster_find_the_direct_way() {
    let pair = pair_of(echo(b"").await, true).await;
    assert_eq!(ask(pair.listen, b"hello").await.unwrap(), b"hello");
    until("the direct way", || {
        pair.client.overlay.is_direct(WorkloadId(2)) && pair.server.overlay.is_direct(WorkloadId(1))
    })
    .await;
    assert_eq!(ask(pair.listen, b"again").await.unwrap(), b"again");
    pair.server.vanish();
    until("its end", || !pair.client.overlay.is_direct(WorkloadId(2))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_spread_over_endpoints_and_move_when_one_ends() {
    let pair = pair(echo(b"2").await).await;
    let third = Setup {
        forwarder: &pair.forwarder,
        cluster: &pair.cluster,
        instance: 3,
        account: "pay",
        believes: &[&pair.cluster],
        upstream: Some(echo(b"3").await),
        direct: false,
        window: WINDOW,
    }
    .start()
    .await;
    let mut offer = pair.cluster.offer("pay");
    offer.endpoints = vec![pair.cluster.endpoint(2), pair.cluster.endpoint(3)];
    pair.client.learns(vec![offer]);
    // the second connection begins to warm up the other endpoint
    until_spread(pair.listen).await;
    third.vanish();
    drop(third);
    for _ in 0..20 {
        let answer = ask(pair.listen, b"").await.unwrap();
        assert_eq!(answer, b"2");
    }
}

async fn until_spread(listen: std::net::SocketAddr) {
    let mut seen: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    let ask = async {
        while seen.len() < 2 {
            *seen.entry(ask(listen, b"").await.unwrap()).or_default() += 1;
        }
    };
    timeout(SOON, ask).await.unwrap();
}

/// As small as it may be: the header and what is sent before the answer are more.
const SMALL: u32 = 64 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_window_had_no_room_for_is_said_after_the_answer() {
    let pair = pair_with(echo(b"").await, false, SMALL).await;
    for length in [256 << 10, SMALL as usize, (SMALL as usize) - 8] {
        let sent = pattern(length);
        for _ in 0..3 {
            let got = ask(pair.listen, &sent).await.unwrap();
            assert!(got == sent, "{} of {length} bytes", got.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_attempt_says_all_again_and_ends() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let pair = pair_with(closed, false, SMALL).await;
    let _third = Setup {
        forwarder: &pair.forwarder,
        cluster: &pair.cluster,
        instance: 3,
        account: "pay",
        believes: &[&pair.cluster],
        upstream: Some(echo(b"").await),
        direct: false,
        window: SMALL,
    }
    .start()
    .await;
    let mut offer = pair.cluster.offer("pay");
    offer.endpoints = vec![pair.cluster.endpoint(2), pair.cluster.endpoint(3)];
    pair.client.learns(vec![offer]);
    let sent = pattern((SMALL as usize) - 8);
    for _ in 0..10 {
        let got = ask(pair.listen, &sent).await.unwrap();
        assert!(got == sent, "{} bytes", got.len());
    }
}
