//! The socket as quinn uses it.

use super::*;
use causeway_model::{Epoch, ServiceHandle};
use causeway_wire::Cid;
use quinn_udp::Transmit;
use std::net::UdpSocket;

fn overlay(size: u16) -> Overlay {
    let settings = TransportSettings { datagram_size: size, ..TransportSettings::default() };
    Overlay::bind("127.0.0.1:0".parse().unwrap(), &settings).unwrap()
}

fn transmit(contents: &[u8], segment_size: Option<usize>) -> Transmit<'_> {
    Transmit { destination: virtual_addr(), ecn: None, contents, segment_size, src_ip: None }
}

fn packet(size: usize) -> Vec<u8> {
    let mut packet = vec![0x40; size];
    let cid = Cid::service(ClusterId::new(2).unwrap(), ServiceHandle(1), 9);
    packet[1..21].copy_from_slice(&cid.0);
    packet
}

#[tokio::test]
async fn a_batch_of_more_than_64_kib_is_split() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let overlay = overlay(8900);
    overlay
        .set_gateways(vec![GatewayTarget { node: NodeId(1), addrs: vec![receiver.local_addr().unwrap()] }]);
    let mut batch = packet(8900).repeat(10);
    batch.extend(packet(500));
    let socket = overlay.socket();
    socket.try_send(&transmit(&batch, Some(8900))).unwrap();
    let mut sizes = vec![];
    let mut buffer = [0; 10_000];
    for _ in 0..11 {
        sizes.push(receiver.recv(&mut buffer).unwrap());
    }
    assert_eq!((sizes[..10].to_vec(), sizes[10]), (vec![8900; 10], 500));
    let metrics = overlay.metrics();
    assert_eq!((metrics.send_split.get(), metrics.sent_datagrams.get()), (1, 11));
    assert!(socket.max_transmit_segments() <= 7);
    assert!(!socket.may_fragment());
}

#[tokio::test]
async fn what_has_nowhere_to_go_is_counted_and_no_error() {
    let overlay = overlay(1452);
    let socket = overlay.socket();
    socket.try_send(&transmit(&packet(1200), None)).unwrap();
    overlay
        .set_gateways(vec![GatewayTarget { node: NodeId(1), addrs: vec!["127.0.0.1:9".parse().unwrap()] }]);
    // a stateless reset has random bytes where the destination would be
    socket.try_send(&transmit(&[0x50; 43], None)).unwrap();
    socket.try_send(&transmit(&[], None)).unwrap();
    assert_eq!(overlay.metrics().unrouted.get(), 2);
}

#[tokio::test]
async fn connection_ids_are_minted_under_the_newest_key() {
    let overlay = overlay(1452);
    assert_eq!(overlay.mint(), None);
    let cluster = ClusterId::new(1).unwrap();
    for epoch in [3, 4] {
        let keys = (3..=epoch).map(|epoch| (Epoch(epoch), [u8::try_from(epoch).unwrap(); 16]));
        overlay.attach(Attachment {
            cluster,
            workload: WorkloadId(6),
            cid_keys: CidKeys::new(cluster, keys),
            probe_key: [0; 32],
            probe_epoch_bits: 0,
        });
        let cid = overlay.mint().unwrap();
        assert_eq!(u64::from(cid.epoch_bits()), epoch);
        assert_eq!(overlay.attachment().unwrap().cid_keys.open(&cid), Some(WorkloadId(6)));
    }
    assert_ne!(overlay.mint(), overlay.mint());
    let shown = format!("{:?} {overlay:?}", overlay.attachment().unwrap());
    assert!(!shown.contains("[0, 0"), "{shown}");
}

#[test]
fn an_address_in_use_is_told_by_its_kind_and_named_by_whoever_asked() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let error = Overlay::bind(addr, &TransportSettings::default()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(!error.to_string().contains(&addr.to_string()), "{error}");
}

#[tokio::test]
async fn a_short_batch_ends_the_readiness_and_the_next_packet_wakes_again() {
    let overlay = overlay(1452);
    let socket = overlay.socket();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut buffers = vec![vec![0; 65_536]; quinn_udp::BATCH_SIZE];
    for _ in 0..3 {
        sender.send_to(&packet(1200), overlay.local_addr()).unwrap();
        let received = std::future::poll_fn(|cx| {
            let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| io::IoSliceMut::new(buffer)).collect();
            let mut meta = vec![quinn_udp::RecvMeta::default(); slices.len()];
            socket.poll_recv(cx, &mut slices, &mut meta)
        });
        let received = tokio::time::timeout(Duration::from_secs(10), received).await.unwrap().unwrap();
        assert_eq!(received, 1);
        let mut called = false;
        let call = |_: &UdpSocket| {
            called = true;
            Ok(())
        };
        let again = overlay.inner.io.receive(call);
        assert!(again.is_err() && !called, "the socket is still taken for readable");
    }
}
