//! Bounds, hand-over and the end.

use crate::upstream::{Upstream, address};
use crate::world::{
    DEADLINE, World, ask_tcp, ask_udp, config, exchange, extended_error, question, read_tcp, send_tcp, until,
};
use causeway_dns::{DnsMetrics, DnsServer, Names};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn questions_beyond_the_bound_are_refused_and_known_names_are_not() {
    let mut config = config(&[]);
    config.limits.pending = 2;
    config.limits.question_timeout = Duration::from_secs(2);
    let world = World::start(&config);
    let to = world.address;
    let waiting: Vec<_> = ["never.shop.mesh.", "never.other.mesh."]
        .map(|name| tokio::spawn(async move { ask_udp(to, &question(name, RecordType::A)).await }))
        .into();
    until("two questions wait", || world.metrics.pending.get() == 2).await;
    let refused = world.ask("nobody.shop.mesh.", RecordType::A).await;
    assert_eq!(refused.response_code, ResponseCode::ServFail);
    assert!(extended_error(&refused).unwrap().1.contains("too many"));
    assert_eq!(world.ask("pay.shop.mesh.", RecordType::A).await.answers.len(), 1);
    for task in waiting {
        let answer = task.await.unwrap();
        assert_eq!(answer.response_code, ResponseCode::ServFail);
        assert!(extended_error(&answer).unwrap().1.contains("within 2s"));
    }
    assert_eq!(world.ask("nobody.shop.mesh.", RecordType::A).await.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_and_silent_ones_too() {
    let mut config = config(&[]);
    config.limits.tcp_connections = 1;
    config.limits.tcp_idle = Duration::from_millis(300);
    let world = World::start(&config);
    let mut first = TcpStream::connect(world.address).await.unwrap();
    assert_eq!(ask_tcp(&mut first, &question("pay.shop.mesh.", RecordType::A)).await.answers.len(), 1);
    let mut second = TcpStream::connect(world.address).await.unwrap();
    let mut byte = [0];
    let got = tokio::time::timeout(DEADLINE, second.read(&mut byte)).await.unwrap();
    assert!(matches!(got, Ok(0) | Err(_)));
    assert_eq!(tokio::time::timeout(DEADLINE, first.read(&mut byte)).await.unwrap().unwrap(), 0);
    until("there is room again", || world.metrics.tcp_open.get() == 0).await;
    let mut third = TcpStream::connect(world.address).await.unwrap();
    assert_eq!(ask_tcp(&mut third, &question("pay.shop.mesh.", RecordType::A)).await.answers.len(), 1);
}

#[tokio::test]
async fn a_slow_question_does_not_hold_up_those_behind_it() {
    let upstream = Upstream::start(|question, _| Some(address(question, 60, 1))).await;
    upstream.close();
    let world = World::start(&config(&[upstream.address]));
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    for (id, name) in [(1, "slow.example."), (2, "pay.shop.mesh.")] {
        let mut asked = question(name, RecordType::A);
        asked.metadata.id = id;
        send_tcp(&mut stream, &asked).await;
    }
    assert_eq!(read_tcp(&mut stream).await.unwrap().id, 2);
    upstream.open();
    assert_eq!(read_tcp(&mut stream).await.unwrap().id, 1);
}

#[tokio::test]
async fn a_message_that_is_too_long_or_none_ends_its_connection_only() {
    let world = World::start(&config(&[]));
    for bytes in [&[0xff, 0xff][..], &[0, 3, 1, 2, 3], &[0, 0]] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        assert!(read_tcp(&mut stream).await.is_none());
    }
    assert_eq!(world.ask("pay.shop.mesh.", RecordType::A).await.answers.len(), 1);
}

#[tokio::test]
async fn sockets_are_handed_over_and_the_questions_that_wait_are_answered() {
    let upstream = Upstream::start(|question, _| Some(address(question, 60, 1))).await;
    upstream.close();
    let config = config(&[upstream.address]);
    let names = World::start(&config);
    let bind = |sockets| {
        let table = Arc::clone(&names.table) as Arc<dyn Names>;
        match sockets {
            None => DnsServer::bind(&config, table, DnsMetrics::new()).unwrap(),
            Some(sockets) => DnsServer::from_sockets(sockets, &config, table, DnsMetrics::new()).unwrap(),
        }
    };
    let old = bind(None);
    let (address, sockets) = (old.local_addrs()[0], old.sockets().unwrap());
    let (stop_old, stop_new) = (CancellationToken::new(), CancellationToken::new());
    let old = tokio::spawn(old.serve(stop_old.clone()));
    let waiting =
        tokio::spawn(async move { ask_udp(address, &question("slow.example.", RecordType::A)).await });
    until("a question waits", || upstream.asked() == 1).await;
    let new = bind(Some(sockets));
    assert_eq!(new.local_addrs(), [address]);
    let new = tokio::spawn(new.serve(stop_new.clone()));
    stop_old.cancel();
    assert_eq!(ask_udp(address, &question("pay.shop.mesh.", RecordType::A)).await.answers.len(), 1);
    upstream.open();
    assert_eq!(waiting.await.unwrap().answers.len(), 1);
    old.await.unwrap().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask_tcp(&mut stream, &question("pay.shop.mesh.", RecordType::A)).await.answers.len(), 1);
    stop_new.cancel();
    tokio::time::timeout(DEADLINE, new).await.unwrap().unwrap().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn no_datagrams_end_the_server(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::start(&config(&[]));
            let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
            for packet in &packets {
                socket.send_to(packet, world.address).await.unwrap();
            }
            let asked = question("pay.shop.mesh.", RecordType::A).to_vec().unwrap();
            let answer = Message::from_vec(&exchange(world.address, &asked).await).unwrap();
            assert_eq!(answer.answers.len(), 1);
            assert!(!world.running.is_finished());
        });
    }
}
