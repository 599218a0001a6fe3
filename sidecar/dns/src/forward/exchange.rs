//! One question to one upstream: over UDP from a port of its own, over TCP if the answer was too long.

use super::message::{Malformed, Stored};
use crate::question::{HEADER, Question};
use crate::reply::opt_record;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// The largest datagram that is read. We ask for 1232 bytes, and a server that sends more is heard too.
const DATAGRAM: usize = 4096;
/// Datagrams that do not answer the question, after which the exchange is over: somebody is guessing.
const STRAYS: usize = 16;

/// Why an upstream gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer in time")]
    Timeout,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("its answer is not one to the question")]
    Malformed(#[from] Malformed),
}

impl Failure {
    /// The stable word for metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Io(_) => "io",
            Self::Malformed(_) => "malformed",
        }
    }
}

/// Asks `upstream` the `question`. Bounded in time by the caller.
pub(super) async fn ask(upstream: SocketAddr, question: &Question) -> Result<Stored, Failure> {
    // with the port, 32 bits that a forger must guess (RFC 5452)
    let id = u16::try_from(random()? & 0xffff).unwrap_or_default();
    let query = query(question, id);
    let answer = ask_udp(upstream, &query, question, id).await?;
    if !answer.is_truncated() {
        return Ok(answer);
    }
    ask_tcp(upstream, &query, question, id).await
}

fn random() -> io::Result<u32> {
    getrandom::u32().map_err(|error| io::Error::other(error.to_string()))
}

async fn ask_udp(
    upstream: SocketAddr,
    query: &[u8],
    question: &Question,
    id: u16,
) -> Result<Stored, Failure> {
    let any: SocketAddr = if upstream.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    socket.send(query).await?;
    let mut packet = vec![0; DATAGRAM];
    for _ in 0..STRAYS {
        let len = socket.recv(&mut packet).await?;
        if let Ok(answer) = Stored::read(&packet[..len], question, id) {
            return Ok(answer);
        }
    }
    Err(Malformed.into())
}

async fn ask_tcp(
    upstream: SocketAddr,
    query: &[u8],
    question: &Question,
    id: u16,
) -> Result<Stored, Failure> {
    let mut stream = TcpStream::connect(upstream).await?;
    // a question is at most 282 bytes long
    let len = u16::try_from(query.len()).unwrap_or_default();
    stream.write_all(&[&len.to_be_bytes(), query].concat()).await?;
    let mut packet = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut packet).await?;
    let answer = Stored::read(&packet, question, id)?;
    if answer.is_truncated() { Err(Malformed.into()) } else { Ok(answer) }
}

/// The question as its asker put it, in a message of our own: options of EDNS are between neighbours (RFC 6891 section 6.1.1),
/// and the asker's id is not for others to see.
fn query(question: &Question, id: u16) -> Vec<u8> {
    let meta = &question.meta;
    let mut query = Vec::with_capacity(HEADER + question.raw.len() + 11);
    query.extend_from_slice(&id.to_be_bytes());
    query.push(u8::from(meta.recursion_desired));
    query.push(u8::from(meta.authentic_data) << 5 | u8::from(meta.checking_disabled) << 4);
    query.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(question.edns.is_some())]);
    query.extend_from_slice(&question.raw);
    if let Some(asked) = question.edns {
        opt_record(&mut query, 0, asked.dnssec_ok, &[]);
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::{Transport, UDP_PAYLOAD};
    use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
    use hickory_proto::rr::rdata::opt::EdnsOption;
    use hickory_proto::rr::{Name, RecordType};

    #[test]
    fn a_question_is_passed_on_without_what_is_between_neighbours() {
        let mut asked = Message::new(7, MessageType::Query, OpCode::Query);
        asked.add_query(Query::query(Name::from_ascii("wWw.example.com.").unwrap(), RecordType::CAA));
        (asked.metadata.recursion_desired, asked.metadata.checking_disabled) = (true, true);
        let mut edns = Edns::new();
        edns.set_dnssec_ok(true).set_max_payload(4096);
        edns.options_mut().insert(EdnsOption::Unknown(10, vec![1; 8]));
        asked.set_edns(edns);
        let question = Question::read(&asked.to_vec().unwrap(), Transport::Tcp).unwrap();
        let sent = Message::from_vec(&query(&question, 9)).unwrap();
        assert_eq!((sent.id, sent.recursion_desired, sent.checking_disabled), (9, true, true));
        assert!(!sent.authentic_data);
        assert_eq!(sent.queries[0].name().to_ascii(), "wWw.example.com.");
        let edns = sent.edns.unwrap();
        assert!(edns.flags().dnssec_ok && edns.options().as_ref().is_empty());
        assert_eq!(edns.max_payload(), UDP_PAYLOAD);
        asked.edns = None;
        let question = Question::read(&asked.to_vec().unwrap(), Transport::Tcp).unwrap();
        assert!(Message::from_vec(&query(&question, 9)).unwrap().edns.is_none());
    }
}
