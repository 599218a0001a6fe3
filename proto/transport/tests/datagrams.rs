//! Datagrams between sidecars: how large they may be, and what becomes of those that nobody takes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use bytes::Bytes;
use causeway_transport::{Side, TransportSettings};
use causeway_wire::datagram::{FLOW_PREFIX, FlowId};
use std::time::Duration;
use support::{Pair, until};

/// What an Ethernet frame leaves to an application that leaves some room for tunnels.
const USUAL: usize = 1400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_of_1400_bytes_fits_once_the_path_is_known() {
    let pair = Pair::connected().await;
    assert_eq!((pair.client.side(), pair.server.side()), (Side::Client, Side::Server));
    // before the search for the path's size has ended, it takes a stream
    assert!(pair.client.max_datagram_size().is_some_and(|size| size > 1100));
    for connection in [&pair.client, &pair.server] {
        let room = || connection.max_datagram_size().unwrap();
        until("1,400 bytes fit", || room() >= FLOW_PREFIX + USUAL).await;
        // 1,452 bytes less short header, packet number, tag and the bound of the frame's header: nothing is left
        assert_eq!(room(), FLOW_PREFIX + USUAL);
    }
    let flow = FlowId(0xffff);
    for (from, to) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
        for length in [0, 1, USUAL] {
            let payload = vec![7; length];
            from.send_datagram([&flow.prefix()[..], &payload].concat().into()).unwrap();
            let got =
                tokio::time::timeout(Duration::from_secs(10), to.read_datagram()).await.unwrap().unwrap();
            assert_eq!(FlowId::split(got), Some((flow, Bytes::from(payload))));
        }
        assert!(from.send_datagram(vec![0; FLOW_PREFIX + USUAL + 1].into()).is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_takes_is_bounded_and_the_newest_stays() {
    let pair = Pair::connected().await;
    let most = TransportSettings::default().datagram_receive_buffer as usize;
    let sent = 3 * most / 1000;
    for number in 0..sent {
        let mut datagram = vec![0; 1000];
        datagram[..8].copy_from_slice(&(number as u64).to_be_bytes());
        while pair.client.datagram_send_buffer_space() < datagram.len() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        pair.client.send_datagram(datagram.into()).unwrap();
    }
    let received = || pair.server.stats().frame_rx.datagram;
    until("all are sent", || pair.client.stats().frame_tx.datagram == sent as u64).await;
    // some may be lost in a socket's buffer
    until("most arrive", || received() > sent as u64 * 9 / 10).await;
    let mut kept = Vec::new();
    while let Ok(got) = tokio::time::timeout(Duration::from_millis(200), pair.server.read_datagram()).await {
        kept.push(u64::from_be_bytes(*got.unwrap().first_chunk().unwrap()));
    }
    assert!(kept.len() * 1000 <= most, "{} were kept", kept.len());
    assert!(kept.iter().all(|number| *number > sent as u64 / 3), "{kept:?}");
}
