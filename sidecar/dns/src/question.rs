//! A question as it came in: read, bounded, and judged as far as that needs no knowledge of names.

use hickory_proto::op::{Edns, Header, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

/// The largest answer over UDP, and what we say we take: fits any path unfragmented (the DNS flag day of 2020).
pub(crate) const UDP_PAYLOAD: u16 = 1232;
/// The largest answer over UDP for an asker without EDNS (RFC 1035 section 4.2.1).
const UDP_PLAIN: u16 = 512;
/// The length of a header.
pub(crate) const HEADER: usize = 12;
/// Records after the question that are read at most: EDNS, a signature, and some.
const EXTRA_RECORDS: u16 = 4;

/// How a question came, which bounds the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// What an asker said of itself with EDNS(0) (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) payload: u16,
    pub(crate) dnssec_ok: bool,
}

/// One question.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) meta: Metadata,
    /// Name, type and class as they came: the answer repeats them to the letter.
    pub(crate) raw: Vec<u8>,
    pub(crate) name: Name,
    pub(crate) kind: RecordType,
    pub(crate) edns: Option<Asked>,
    /// The most bytes of an answer.
    pub(crate) limit: u16,
}

/// A message that is not a question to be answered with records.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It gets no answer: not a message, or one that is an answer itself.
    Drop,
    /// It gets this code, with as much of the question as was understood.
    Code(Box<Question>, ResponseCode),
}

impl Question {
    /// Reads a message that somebody sent to us.
    pub(crate) fn read(packet: &[u8], transport: Transport) -> Result<Self, Refused> {
        let mut decoder = BinDecoder::new(packet);
        let header = Header::read(&mut decoder).map_err(|_| Refused::Drop)?;
        if header.message_type == MessageType::Response {
            return Err(Refused::Drop);
        }
        let mut question = Self::empty(header.metadata, transport);
        let refuse = |question, code| Err(Refused::Code(Box::new(question), code));
        if header.op_code != OpCode::Query {
            return refuse(question, ResponseCode::NotImp);
        }
        if header.counts.queries != 1 || question.read_query(&mut decoder, packet).is_none() {
            question.forget();
            return refuse(question, ResponseCode::FormErr);
        }
        if matches!(question.kind, RecordType::AXFR | RecordType::IXFR) || !question.of_internet() {
            return refuse(question, ResponseCode::Refused);
        }
        let counts = header.counts;
        if counts.answers != 0 || counts.authorities != 0 || counts.additionals > EXTRA_RECORDS {
            return refuse(question, ResponseCode::FormErr);
        }
        match question.read_edns(&mut decoder, counts.additionals, transport) {
            Some(0) => Ok(question),
            Some(_) => refuse(question, ResponseCode::BADVERS),
            None => refuse(question, ResponseCode::FormErr),
        }
    }

    fn empty(meta: Metadata, transport: Transport) -> Self {
        let limit = if transport == Transport::Tcp { u16::MAX } else { UDP_PLAIN };
        Self { meta, raw: Vec::new(), name: Name::root(), kind: RecordType::ZERO, edns: None, limit }
    }

    fn forget(&mut self) {
        self.raw.clear();
    }

    fn read_query(&mut self, decoder: &mut BinDecoder<'_>, packet: &[u8]) -> Option<()> {
        self.name = Name::read(decoder).ok()?;
        // nothing stands before it that it could be compressed with
        if decoder.index() != HEADER + wire_len(&self.name) {
            return None;
        }
        self.kind = RecordType::read(decoder).ok()?;
        decoder.read_u16().ok()?;
        self.raw.extend_from_slice(packet.get(HEADER..decoder.index())?);
        Some(())
    }

    fn of_internet(&self) -> bool {
        self.raw.ends_with(&u16::from(DNSClass::IN).to_be_bytes())
    }

    /// Reads the records after the question; the version of EDNS, or nothing if they are malformed.
    fn read_edns(&mut self, decoder: &mut BinDecoder<'_>, records: u16, transport: Transport) -> Option<u8> {
        let mut version = 0;
        for _ in 0..records {
            let record = Record::<RData>::read(decoder).ok()?;
            if record.record_type() != RecordType::OPT {
                continue;
            }
            if self.edns.is_some() {
                return None;
            }
            let edns = Edns::from(&record);
            let payload = edns.max_payload().max(UDP_PLAIN);
            version = edns.version();
            self.edns = Some(Asked { payload, dnssec_ok: edns.flags().dnssec_ok });
            if transport == Transport::Udp {
                self.limit = payload.min(UDP_PAYLOAD);
            }
        }
        Some(version)
    }

    /// The name with its length in a message, without the type and class.
    pub(crate) fn raw_name(&self) -> &[u8] {
        &self.raw[..self.raw.len().saturating_sub(4)]
    }
}

/// The length of `name` in a message, uncompressed.
pub(crate) fn wire_len(name: &Name) -> usize {
    1 + name.iter().map(|label| 1 + label.len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Message, Query};
    use proptest::prelude::*;

    fn message(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    fn read(message: &Message) -> Result<Question, ResponseCode> {
        Question::read(&message.to_vec().unwrap(), Transport::Udp).map_err(|refused| match refused {
            Refused::Code(_, code) => code,
            Refused::Drop => panic!("dropped"),
        })
    }

    #[test]
    fn the_case_of_a_name_is_kept() {
        let question = read(&message("PaY.sHop.mesh.", RecordType::A)).unwrap();
        assert_eq!(question.raw_name(), b"\x03PaY\x04sHop\x04mesh\0");
        assert_eq!((question.kind, question.limit, question.edns), (RecordType::A, 512, None));
    }

    #[test]
    fn an_answer_is_bounded_by_what_the_asker_takes_and_by_us() {
        for (payload, limit) in [(100, 512), (900, 900), (4096, 1232)] {
            let mut message = message("a.b.mesh.", RecordType::A);
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
            assert_eq!(read(&message).unwrap().limit, limit);
            let packet = message.to_vec().unwrap();
            assert_eq!(Question::read(&packet, Transport::Tcp).unwrap().limit, u16::MAX);
        }
    }

    #[test]
    fn what_is_not_a_question_is_refused_by_its_code() {
        let mut update = message("mesh.", RecordType::SOA);
        update.metadata.op_code = OpCode::Update;
        assert_eq!(read(&update).unwrap_err(), ResponseCode::NotImp);
        let mut two = message("a.b.mesh.", RecordType::A);
        two.add_query(Query::query(Name::root(), RecordType::A));
        assert_eq!(read(&two).unwrap_err(), ResponseCode::FormErr);
        assert_eq!(read(&message("mesh.", RecordType::AXFR)).unwrap_err(), ResponseCode::Refused);
        let mut chaos = message("version.bind.", RecordType::TXT);
        chaos.queries[0].query_class = DNSClass::CH;
        assert_eq!(read(&chaos).unwrap_err(), ResponseCode::Refused);
        let mut newer = message("a.b.mesh.", RecordType::A);
        let mut edns = Edns::new();
        edns.set_version(1);
        newer.set_edns(edns);
        assert_eq!(read(&newer).unwrap_err(), ResponseCode::BADVERS);
        let mut packet = message("a.b.mesh.", RecordType::A).to_vec().unwrap();
        packet.pop();
        assert!(matches!(
            Question::read(&packet, Transport::Udp),
            Err(Refused::Code(_, ResponseCode::FormErr))
        ));
    }

    #[test]
    fn answers_and_scraps_get_no_answer() {
        let mut answer = message("a.b.mesh.", RecordType::A);
        answer.metadata.message_type = MessageType::Response;
        let packet = answer.to_vec().unwrap();
        assert!(matches!(Question::read(&packet, Transport::Udp), Err(Refused::Drop)));
        assert!(matches!(Question::read(&packet[..11], Transport::Udp), Err(Refused::Drop)));
        assert!(matches!(Question::read(&[], Transport::Udp), Err(Refused::Drop)));
    }

    proptest! {
        #[test]
        fn bytes_never_panic(packet in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Question::read(&packet, Transport::Udp);
        }

        #[test]
        fn a_damaged_question_never_panics(at in 0usize..60, byte in any::<u8>(), cut in 0usize..60) {
            let mut asked = message("_http._tcp.pay.shop.mesh.", RecordType::SRV);
            asked.set_edns(Edns::new());
            let mut packet = asked.to_vec().unwrap();
            if let Some(slot) = packet.get_mut(at) { *slot = byte; }
            packet.truncate(packet.len() - cut.min(packet.len()));
            let _ = Question::read(&packet, Transport::Tcp);
        }
    }
}
