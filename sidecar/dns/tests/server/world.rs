//! A server, its names, and somebody who asks it.

use causeway_dns::{DnsConfig, DnsMetrics, DnsServer, NameError, Names, Resolved, Upstreams};
use causeway_model::{Vip, VipName};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take before the test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Names that are known, and names that must be found out about: `late` comes, `gone` cannot be told, `never` does not end.
#[derive(Default)]
pub(crate) struct Table {
    known: HashMap<VipName, Resolved>,
    pub(crate) known_asked: AtomicUsize,
    pub(crate) resolve_asked: AtomicUsize,
}

impl Table {
    fn with(mut self, name: &str, number: u32, ports: &str) -> Self {
        let ports: Vec<_> =
            ports.split(' ').filter(|port| !port.is_empty()).map(|port| port.parse().unwrap()).collect();
        let resolved = Resolved { vip: Vip::new(number).unwrap(), ports: ports.try_into().unwrap() };
        self.known.insert(name.parse().unwrap(), resolved);
        self
    }
}

impl Names for Table {
    fn known(&self, name: &VipName) -> Option<Resolved> {
        self.known_asked.fetch_add(1, Ordering::Relaxed);
        self.known.get(name).filter(|_| name.service.service().as_str() != "late").cloned()
    }

    fn resolve(
        &self,
        name: VipName,
    ) -> Pin<Box<dyn Future<Output = Result<Resolved, NameError>> + Send + 'static>> {
        self.resolve_asked.fetch_add(1, Ordering::Relaxed);
        let late = self.known.get(&name).cloned();
        Box::pin(async move {
            match name.service.service().as_str() {
                "late" => late.ok_or(NameError::Unknown),
                "gone" => Err(NameError::Unavailable("no gateway answers".to_owned())),
                "never" => std::future::pending().await,
                _ => Err(NameError::Unknown),
            }
        })
    }

    fn name_of(&self, vip: Vip) -> Option<VipName> {
        self.known.iter().find(|(_, resolved)| resolved.vip == vip).map(|(name, _)| name.clone())
    }
}

/// A running server.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) table: Arc<Table>,
    pub(crate) metrics: DnsMetrics,
    pub(crate) stop: CancellationToken,
    pub(crate) running: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A configuration for tests, with these upstreams.
pub(crate) fn config(upstreams: &[SocketAddr]) -> DnsConfig {
    let upstream = if upstreams.is_empty() { Upstreams::None } else { Upstreams::List(upstreams.to_vec()) };
    DnsConfig { listen: vec!["127.0.0.1:0".parse().unwrap()], upstream, ..DnsConfig::default() }
}

impl World {
    /// A server with this configuration.
    pub(crate) fn start(config: &DnsConfig) -> Self {
        let many: Vec<String> = (1..=64).map(|port| format!("{port}/tcp")).collect();
        let table = Table::default()
            .with("pay.shop", 0x1_0203, "80/http 443/http 53/udp 9000/grpc 5432")
            .with("pay.shop@phx", 7, "80/http")
            .with("late.shop", 8, "80/http")
            .with("many.shop", 9, &many.join(" "))
            .with("bare.shop", 10, "");
        let (table, metrics) = (Arc::new(table), DnsMetrics::new());
        let server = DnsServer::bind(config, Arc::clone(&table) as Arc<dyn Names>, metrics.clone()).unwrap();
        let address = server.local_addrs()[0];
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let stop = stop.clone();
            async move { server.serve(stop).await.unwrap() }
        });
        Self { address, table, metrics, stop, running }
    }

    /// The answer to a question for `name` over UDP, with EDNS.
    pub(crate) async fn ask(&self, name: &str, kind: RecordType) -> Message {
        ask_udp(self.address, &question(name, kind)).await
    }
}

/// A question with EDNS.
pub(crate) fn question(name: &str, kind: RecordType) -> Message {
    let mut message = plain(name, kind);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    message.set_edns(edns);
    message
}

/// A question without EDNS.
pub(crate) fn plain(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// Sends bytes over UDP and waits for the answer.
pub(crate) async fn exchange(to: SocketAddr, packet: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(packet, to).await.unwrap();
    let mut answer = vec![0; 65_535];
    let (len, from) = tokio::time::timeout(DEADLINE, socket.recv_from(&mut answer)).await.unwrap().unwrap();
    assert_eq!(from, to);
    answer.truncate(len);
    answer
}

/// Asks over UDP.
pub(crate) async fn ask_udp(to: SocketAddr, question: &Message) -> Message {
    let answer = exchange(to, &question.to_vec().unwrap()).await;
    assert!(answer.len() <= 1232, "{}", answer.len());
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!((answer.id, answer.message_type), (question.id, MessageType::Response));
    answer
}

/// Asks over a TCP connection.
pub(crate) async fn ask_tcp(stream: &mut TcpStream, question: &Message) -> Message {
    send_tcp(stream, question).await;
    read_tcp(stream).await.unwrap()
}

/// Sends a question over TCP.
pub(crate) async fn send_tcp(stream: &mut TcpStream, question: &Message) {
    let bytes = question.to_vec().unwrap();
    stream.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
}

/// The next answer over TCP; none at the end.
pub(crate) async fn read_tcp(stream: &mut TcpStream) -> Option<Message> {
    let read = async {
        let mut bytes = vec![0; usize::from(stream.read_u16().await.ok()?)];
        stream.read_exact(&mut bytes).await.ok()?;
        Some(Message::from_vec(&bytes).unwrap())
    };
    tokio::time::timeout(DEADLINE, read).await.unwrap()
}

/// Waits until `holds`.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, wait).await.is_ok(), "{what}");
}

/// What records are of.
pub(crate) fn data(records: &[Record]) -> Vec<RData> {
    records.iter().map(|record| record.data.clone()).collect()
}

/// The text of an answer's extended error.
pub(crate) fn extended_error(answer: &Message) -> Option<(u16, String)> {
    match answer.edns.as_ref()?.option(EdnsCode::Unknown(15))? {
        EdnsOption::Unknown(_, bytes) => {
            let (code, text) = bytes.split_first_chunk()?;
            Some((u16::from_be_bytes(*code), String::from_utf8(text.to_vec()).unwrap()))
        }
        _ => None,
    }
}
