//! An upstream resolver of a test: what it says depends on the first label of the name.

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};

/// How many records `long` has.
pub(crate) const LONG: usize = 40;

/// A resolver over UDP and TCP, in threads that end with the test's process.
pub(crate) struct Upstream {
    addr: SocketAddr,
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let (udp, tcp) = sockets();
        let addr = udp.local_addr().unwrap();
        let asked = Arc::<Mutex<HashMap<String, usize>>>::default();
        let counts = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut packet = [0; 4096];
            while let Ok((len, from)) = udp.recv_from(&mut packet) {
                let question = Message::from_vec(&packet[..len]).unwrap();
                let name = question.queries[0].name().to_lowercase().to_ascii();
                *counts.lock().unwrap().entry(name).or_default() += 1;
                if let Some(answer) = answer(&question, false) {
                    udp.send_to(&answer.to_vec().unwrap(), from).unwrap();
                }
            }
        });
        std::thread::spawn(move || tcp.incoming().flatten().for_each(|stream| drop(serve(stream))));
        Self { addr, asked }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How often `name` was asked for over UDP.
    pub(crate) fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().get(name).copied().unwrap_or_default()
    }
}

fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        // a port that happens to be free for UDP need not be for TCP
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut packet = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut packet)?;
    let Some(answer) = answer(&Message::from_vec(&packet).unwrap(), true) else { return Ok(()) };
    let bytes = answer.to_vec().unwrap();
    stream.write_all(&[&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat())
}

fn answer(question: &Message, tcp: bool) -> Option<Message> {
    let name = question.queries[0].name().clone();
    let mut answer = Message::response(question.id, OpCode::Query);
    answer.add_query(question.queries[0].clone());
    answer.metadata.recursion_available = true;
    answer.edns = question.edns.clone();
    let first = name.iter().next().unwrap_or_default().to_ascii_lowercase();
    match &first[..] {
        b"silent" => return None,
        b"a" => drop(answer.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 1))))),
        b"broken" => answer.metadata.response_code = ResponseCode::ServFail,
        b"long" if !tcp => answer.metadata.truncation = true,
        b"long" => {
            for number in 0..LONG {
                let text = TXT::new(vec![format!("{number:0>60}")]);
                answer.add_answer(Record::from_rdata(name.clone(), 60, RData::TXT(text)));
            }
        }
        _ => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            let zone = |text| Name::from_ascii(text).unwrap();
            let soa = SOA::new(zone("ns.example."), zone("root.example."), 1, 60, 60, 60, 60);
            answer.add_authority(Record::from_rdata(zone("example."), 60, RData::SOA(soa)));
        }
    }
    Some(answer)
}
