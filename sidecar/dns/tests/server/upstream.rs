//! An upstream resolver of the test's own.

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

type Script = dyn Fn(&Message, bool) -> Option<Message> + Send + Sync;

/// A resolver that answers as its script says, over UDP and TCP.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    /// Questions that came, but for those that look for loops.
    pub(crate) asked: Arc<AtomicUsize>,
    gate: watch::Sender<bool>,
}

impl Upstream {
    /// One whose script gets each question, and whether it came over TCP.
    pub(crate) async fn start(
        script: impl Fn(&Message, bool) -> Option<Message> + Send + Sync + 'static,
    ) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (Arc::new(udp), tcp);
            }
        };
        let (gate, open) = watch::channel(true);
        let asked = Arc::new(AtomicUsize::new(0));
        let this = Self { address: udp.local_addr().unwrap(), asked: Arc::clone(&asked), gate };
        let script: Arc<Script> = Arc::new(script);
        tokio::spawn(serve_udp(udp, Arc::clone(&script), asked, open));
        tokio::spawn(serve_tcp(tcp, script));
        this
    }

    /// Answers only after `open`.
    pub(crate) fn close(&self) {
        self.gate.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.gate.send_replace(true);
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn serve_udp(
    socket: Arc<UdpSocket>,
    script: Arc<Script>,
    asked: Arc<AtomicUsize>,
    open: watch::Receiver<bool>,
) {
    let mut packet = vec![0; 4096];
    while let Ok((len, from)) = socket.recv_from(&mut packet).await {
        let question = Message::from_vec(&packet[..len]).unwrap();
        if question.queries[0].query_type() != RecordType::HINFO {
            asked.fetch_add(1, Ordering::Relaxed);
        }
        let (socket, script, mut open) = (Arc::clone(&socket), Arc::clone(&script), open.clone());
        tokio::spawn(async move {
            if open.wait_for(|open| *open).await.is_ok()
                && let Some(answer) = script(&question, false)
            {
                let _ = socket.send_to(&answer.to_vec().unwrap(), from).await;
            }
        });
    }
}

async fn serve_tcp(listener: TcpListener, script: Arc<Script>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut packet = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut packet).await.unwrap();
        if let Some(answer) = script(&Message::from_vec(&packet).unwrap(), true) {
            let bytes = answer.to_vec().unwrap();
            stream.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
    }
}

/// An answer without records.
pub(crate) fn answer(question: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::response(question.id, OpCode::Query);
    answer.add_query(question.queries[0].clone());
    answer.metadata.response_code = code;
    answer.metadata.recursion_available = true;
    answer.edns = question.edns.clone();
    answer
}

/// An answer with one address.
pub(crate) fn address(question: &Message, ttl: u32, last: u8) -> Message {
    let mut answer = answer(question, ResponseCode::NoError);
    let name = question.queries[0].name().clone();
    answer.add_answer(Record::from_rdata(name, ttl, RData::A(A::new(192, 0, 2, last))));
    answer
}
