use super::*;
use crate::question::Transport;
use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, CNAME, NULL, SOA};
use hickory_proto::rr::{Name, RData, Record};
use proptest::prelude::*;

const ID: u16 = 99;

fn name(name: &str) -> Name {
    Name::from_ascii(name).unwrap()
}

fn asked(text: &str, edns: Option<u16>, transport: Transport) -> Question {
    let mut message = Message::new(5, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(name(text), RecordType::A));
    message.metadata.recursion_desired = true;
    if let Some(payload) = edns {
        let mut edns = Edns::new();
        edns.set_max_payload(payload).set_dnssec_ok(true);
        message.set_edns(edns);
    }
    Question::read(&message.to_vec().unwrap(), transport).unwrap()
}

fn answer(text: &str, code: ResponseCode) -> Message {
    let mut message = Message::response(ID, OpCode::Query);
    message.add_query(Query::query(name(text), RecordType::A));
    message.metadata.response_code = code;
    message.metadata.recursion_available = true;
    message
}

fn address(owner: &str, ttl: u32, last: u8) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(A::new(192, 0, 2, last)))
}

fn soa(ttl: u32, minimum: u32) -> Record {
    let soa = SOA::new(name("ns.example."), name("me.example."), 1, 2, 3, 4, minimum);
    Record::from_rdata(name("example."), ttl, RData::SOA(soa))
}

fn read(message: &Message, question: &Question) -> Stored {
    Stored::read(&message.to_vec().unwrap(), question, ID).unwrap()
}

fn written(stored: &Stored, question: &Question, age: u32) -> Message {
    let mut out = Vec::new();
    stored.write(question, age, &mut out);
    assert!(out.len() <= usize::from(question.limit));
    Message::from_vec(&out).unwrap()
}

#[test]
fn an_answer_is_passed_on_as_it_was_but_for_what_is_the_askers() {
    let question = asked("wWw.Example.", Some(1232), Transport::Udp);
    let mut message = answer("www.example.", ResponseCode::NoError);
    message.metadata.authoritative = true;
    message.metadata.authentic_data = true;
    message.add_answer(Record::from_rdata(
        name("www.example."),
        60,
        RData::CNAME(CNAME(name("web.example."))),
    ));
    message.add_answer(address("web.example.", 30, 1));
    let unknown = RData::Unknown { code: RecordType::Unknown(65_000), rdata: NULL::with(vec![1, 2, 3]) };
    message.add_answer(Record::from_rdata(name("web.example."), 90, unknown));
    message.add_authority(soa(100, 50));
    message.add_additional(address("ns.example.", 100, 2));
    let mut edns = Edns::new();
    edns.set_dnssec_ok(true);
    edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, vec![0, 3]));
    edns.options_mut().insert(EdnsOption::Unknown(10, vec![9; 16]));
    message.set_edns(edns);
    let stored = read(&message, &question);
    assert_eq!(stored.keep(), Duration::from_secs(30));
    let got = written(&stored, &question, 12);
    assert_eq!((got.id, got.response_code), (5, ResponseCode::NoError));
    assert!(got.recursion_desired && got.recursion_available && got.authentic_data && !got.authoritative);
    assert_eq!(got.queries[0].name().to_ascii(), "wWw.Example.");
    assert_eq!(got.answers.iter().map(|r| r.ttl).collect::<Vec<_>>(), [48, 18, 78]);
    let data = |records: &[Record]| records.iter().map(|r| r.data.clone()).collect::<Vec<_>>();
    assert_eq!(data(&got.answers), data(&message.answers));
    assert_eq!((got.authorities.len(), got.additionals.len()), (1, 1));
    let edns = got.edns.unwrap();
    assert!(edns.flags().dnssec_ok);
    assert_eq!(edns.options().as_ref().len(), 1);
}

#[test]
fn the_code_of_edns_is_kept() {
    let question = asked("a.example.", Some(1232), Transport::Udp);
    let mut message = answer("a.example.", ResponseCode::BADCOOKIE);
    message.set_edns(Edns::new());
    let stored = read(&message, &question);
    assert_eq!(stored.code(), ResponseCode::BADCOOKIE);
    assert_eq!(written(&stored, &question, 0).response_code, ResponseCode::BADCOOKIE);
}

#[test]
fn an_answer_that_is_too_long_is_cut_to_the_question() {
    let mut message = answer("a.example.", ResponseCode::NoError);
    message.add_answers((0..100).map(|n| address("a.example.", 60, n)));
    for (edns, udp) in [(None, true), (Some(4096), true), (Some(4096), false)] {
        let transport = if udp { Transport::Udp } else { Transport::Tcp };
        let question = asked("a.example.", edns, transport);
        let got = written(&read(&message, &question), &question, 0);
        assert_eq!((got.truncation, got.answers.is_empty()), (udp, udp));
        assert_eq!(got.edns.is_some(), edns.is_some());
    }
}

#[test]
fn it_is_kept_for_as_long_as_its_records_say() {
    let question = asked("a.example.", None, Transport::Udp);
    let keep = |message: &Message| read(message, &question).keep().as_secs();
    let none = answer("a.example.", ResponseCode::NoError);
    assert_eq!(keep(&none), 0, "no answer, and no word of how long that holds");
    let mut absent = answer("a.example.", ResponseCode::NXDomain);
    absent.add_authority(soa(100, 50));
    assert_eq!(keep(&absent), 50);
    absent.authorities = vec![soa(1_000_000, 1_000_000)];
    assert_eq!(keep(&absent), 3_600);
    let mut long = answer("a.example.", ResponseCode::NoError);
    long.add_answer(address("a.example.", 1_000_000, 1));
    assert_eq!(keep(&long), 86_400);
    long.answers = vec![address("a.example.", u32::MAX, 1)];
    assert_eq!(keep(&long), 0);
    let mut failed = answer("a.example.", ResponseCode::ServFail);
    failed.add_authority(soa(100, 50));
    assert_eq!(keep(&failed), 0);
    let mut cut = answer("a.example.", ResponseCode::NoError);
    cut.add_answer(address("a.example.", 60, 1));
    cut.metadata.truncation = true;
    assert_eq!(keep(&cut), 0);
}

#[test]
fn what_does_not_answer_the_question_is_refused() {
    let question = asked("a.example.", None, Transport::Udp);
    let good = answer("A.EXAMPLE.", ResponseCode::NoError);
    let bytes = |message: &Message| message.to_vec().unwrap();
    assert!(Stored::read(&bytes(&good), &question, ID).is_ok());
    assert!(Stored::read(&bytes(&good), &question, ID + 1).is_err());
    assert!(Stored::read(&bytes(&answer("b.example.", ResponseCode::NoError)), &question, ID).is_err());
    let mut other = good.clone();
    other.queries[0].query_type = RecordType::AAAA;
    assert!(Stored::read(&bytes(&other), &question, ID).is_err());
    let mut query = good.clone();
    query.metadata.message_type = MessageType::Query;
    assert!(Stored::read(&bytes(&query), &question, ID).is_err());
    let mut bare = good;
    bare.queries.clear();
    assert!(Stored::read(&bytes(&bare), &question, ID).is_err());
    bare.metadata.response_code = ResponseCode::Refused;
    let refused = Stored::read(&bytes(&bare), &question, ID).unwrap();
    assert_eq!(written(&refused, &question, 0).queries.len(), 1);
}

proptest! {
    #[test]
    fn a_damaged_answer_never_panics(
        edits in proptest::collection::vec((0usize..200, any::<u8>()), 0..8),
        cut in 0usize..200,
        age in any::<u32>(),
    ) {
        let question = asked("a.example.", Some(1232), Transport::Udp);
        let mut message = answer("a.example.", ResponseCode::NoError);
        message.add_answer(address("a.example.", 60, 1)).add_authority(soa(3, 3)).set_edns(Edns::new());
        let mut packet = message.to_vec().unwrap();
        for (at, byte) in edits {
            if let Some(slot) = packet.get_mut(at) { *slot = byte; }
        }
        packet.truncate(packet.len().saturating_sub(cut / 2));
        if let Ok(stored) = Stored::read(&packet, &question, ID) {
            let mut out = Vec::new();
            stored.write(&question, age, &mut out);
            prop_assert!(out.len() <= usize::from(question.limit));
            prop_assert_eq!(&out[..2], &[0, 5]);
        }
    }

    #[test]
    fn bytes_never_panic(packet in proptest::collection::vec(any::<u8>(), 0..300)) {
        let question = asked("a.example.", None, Transport::Udp);
        let _ = Stored::read(&packet, &question, ID);
    }
}
