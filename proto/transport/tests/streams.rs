//! Messages on streams, and the plain endpoint for joining.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use causeway_model::NodeId;
use causeway_transport::{
    BootstrapEndpoint, FrameError, FrameReader, FrameWriter, RecvStream, SendStream, TransportSettings,
    peer_identity,
};
use causeway_wire::{Cid, CloseCode, CodecError, Frame, Message};
use std::sync::Arc;
use std::time::Duration;
use support::{Identities, NAME, Pair};

#[derive(Debug, PartialEq)]
struct Note(Vec<u8>);

impl Message for Note {
    fn kind(&self) -> u16 {
        1
    }

    fn body(&self) -> Result<Vec<u8>, CodecError> {
        Ok(self.0.clone())
    }

    fn from_frame(frame: &Frame) -> Result<Option<Self>, CodecError> {
        Ok((frame.kind == 1).then(|| Self(frame.body.to_vec())))
    }
}

async fn streams(pair: &Pair) -> (SendStream, RecvStream) {
    let (mut send, _) = pair.client.open_bi().await.unwrap();
    // a stream exists for the peer once something was sent on it
    send.write_all(&[0, 0, 0, 4, 0, 9, 0, 1]).await.unwrap();
    let (_, receive) = pair.server.accept_bi().await.unwrap();
    (send, receive)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_arrive_whole_and_unknown_ones_are_skipped() {
    let pair = Pair::connected().await;
    let (send, receive) = streams(&pair).await;
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive));
    for len in [0, 1, 5000, 900_000] {
        let note = Note(vec![7; len]);
        let (sent, got) = tokio::join!(writer.send(&note), reader.next::<Note>());
        sent.unwrap();
        assert_eq!(got.unwrap(), Some(note));
    }
    assert_eq!(reader.skipped(), 1);
    // too large a message fails before anything is written
    let error = writer.send(&Note(vec![7; 2 << 20])).await.unwrap_err();
    assert_eq!(error.reason(), "too-large");
    // half a message, a reader that gives up, then the rest
    let bytes = Note(vec![8; 100]).to_frame().unwrap();
    writer.get_mut().write_all(&bytes[..50]).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), reader.next::<Note>()).await.is_err());
    writer.get_mut().write_all(&bytes[50..]).await.unwrap();
    assert_eq!(reader.next::<Note>().await.unwrap(), Some(Note(vec![8; 100])));
    writer.finish().unwrap();
    assert_eq!(reader.next::<Note>().await.unwrap(), None);
    assert_eq!(writer.finish().unwrap_err().reason(), "stream-closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_message_is_handed_on() {
    let pair = Pair::connected().await;
    let (send, receive) = streams(&pair).await;
    let mut writer = FrameWriter::new(send);
    writer.send(&Note(vec![1; 10])).await.unwrap();
    writer.get_mut().write_all(b"then data").await.unwrap();
    writer.finish().unwrap();
    let mut reader = FrameReader::new(receive);
    assert_eq!(reader.next::<Note>().await.unwrap(), Some(Note(vec![1; 10])));
    let (mut stream, over) = reader.into_inner();
    let mut data = over.to_vec();
    data.extend(stream.read_to_end(100).await.unwrap());
    assert_eq!(data, b"then data");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_stream_says_why() {
    let pair = Pair::connected().await;
    let (mut send, receive) = streams(&pair).await;
    send.write_all(&[0, 0]).await.unwrap();
    send.finish().unwrap();
    let error = FrameReader::new(receive).next::<Note>().await.unwrap_err();
    assert!(matches!(error, FrameError::Truncated), "{error}");

    let (mut send, receive) = streams(&pair).await;
    send.write_all(&[0xff; 8]).await.unwrap();
    let error = FrameReader::new(receive).next::<Note>().await.unwrap_err();
    assert_eq!(error.reason(), "frame-length");

    let (mut send, receive) = streams(&pair).await;
    send.reset(CloseCode::Denied.code().into()).unwrap();
    let mut reader = FrameReader::new(receive);
    let error = reader.next::<Note>().await.unwrap_err();
    assert_eq!(
        (error.reason(), error.to_string().as_str()),
        ("denied", "the peer gave up the stream: denied")
    );

    let (_send, receive) = streams(&pair).await;
    pair.client.close(CloseCode::Superseded.code().into(), b"");
    let error = FrameReader::new(receive).next::<Note>().await.unwrap_err();
    assert_eq!(error.reason(), "superseded");
}

#[tokio::test]
async fn a_process_without_keys_reaches_a_gateway() {
    let identities = Identities::new();
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(identities.server("b")).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let server = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    for ip in ["127.0.0.1", "::"] {
        let client = BootstrapEndpoint::bind(ip.parse().unwrap(), &TransportSettings::default()).unwrap();
        let addr = server.local_addr().unwrap();
        assert_eq!(
            client.reachable(&[addr, "[::1]:1".parse().unwrap()]).len(),
            if ip == "::" { 2 } else { 1 }
        );
        let tls = identities.client("a", "b");
        let connecting = client.connect(addr, support::cluster(), NodeId(5), tls, NAME).unwrap();
        let incoming = server.accept().await.unwrap();
        let first = Cid::from_slice(&incoming.orig_dst_cid()).unwrap();
        assert_eq!((first.cluster(), first.node()), (Some(support::cluster()), Some(NodeId(5))));
        let (client_side, server_side) = tokio::join!(connecting, incoming);
        assert_eq!(peer_identity(&client_side.unwrap()).unwrap(), identities.id("b"));
        assert_eq!(peer_identity(&server_side.unwrap()).unwrap(), identities.id("a"));
        client.close(CloseCode::Done, "");
        client.wait_idle().await;
    }
}
