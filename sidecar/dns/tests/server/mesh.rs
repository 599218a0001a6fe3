//! The zones of the mesh.

use crate::world::{World, ask_tcp, ask_udp, config, data, exchange, extended_error, plain, question};
use causeway_model::Vip;
use hickory_proto::op::{Edns, Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpStream;

fn vip(number: u32) -> Vip {
    Vip::new(number).unwrap()
}

fn v4(number: u32) -> RData {
    RData::A(A(vip(number).v4()))
}

fn v6(number: u32) -> RData {
    RData::AAAA(AAAA(vip(number).v6()))
}

/// Asserts a negative answer with the SOA of `zone`.
fn assert_negative(answer: &Message, code: ResponseCode, zone: &str) {
    assert_eq!(answer.response_code, code, "{answer}");
    assert!(answer.authoritative && answer.answers.is_empty(), "{answer}");
    let [soa] = &answer.authorities[..] else { panic!("{answer}") };
    assert_eq!((soa.name.to_ascii().as_str(), soa.ttl), (zone, 5));
    let RData::SOA(soa) = &soa.data else { panic!("{answer}") };
    assert_eq!(soa.minimum, 5);
}

/// The ports and targets of an answer's SRV records.
fn services(answer: &Message) -> Vec<(u16, String)> {
    let srv = |data| match data {
        RData::SRV(srv) => (srv.port, srv.target.to_ascii()),
        other => panic!("{other}"),
    };
    data(&answer.answers).into_iter().map(srv).collect()
}

#[tokio::test]
async fn a_service_has_an_address_of_each_family() {
    let world = World::start(&config(&[]));
    for (name, number) in [
        ("pay.shop.mesh.", 0x1_0203),
        ("pay.shop.at.phx.mesh.", 7),
        ("pay.shop.svc.clusterset.local.", 0x1_0203),
        ("late.shop.mesh.", 8),
    ] {
        for (kind, record) in [(RecordType::A, v4(number)), (RecordType::AAAA, v6(number))] {
            let answer = world.ask(name, kind).await;
            assert_eq!((answer.response_code, answer.authoritative), (ResponseCode::NoError, true), "{name}");
            assert_eq!(data(&answer.answers), [record], "{name}");
            assert_eq!((answer.answers[0].name.to_ascii().as_str(), answer.answers[0].ttl), (name, 30));
        }
    }
    assert_eq!(world.table.known_asked.load(Ordering::Relaxed), 8);
}

#[tokio::test]
async fn the_case_of_a_question_comes_back_in_its_answer() {
    let world = World::start(&config(&[]));
    let answer = world.ask("pAY.sHop.MeSh.", RecordType::A).await;
    assert_eq!(answer.queries[0].name().to_ascii(), "pAY.sHop.MeSh.");
    assert_eq!(answer.answers[0].name.to_ascii(), "pAY.sHop.MeSh.");
    assert_eq!(data(&answer.answers), [v4(0x1_0203)]);
}

#[tokio::test]
async fn a_search_list_with_the_zone_finds_the_service() {
    let world = World::start(&config(&[]));
    // what a resolver with `search svc.example mesh` asks for `pay.shop`, one after the other, and for `pay.shop.mesh`
    let refused = world.ask("pay.shop.svc.example.", RecordType::A).await;
    assert_eq!(refused.response_code, ResponseCode::Refused, "not ours, and no upstream is there");
    assert_eq!(data(&world.ask("pay.shop.mesh.", RecordType::A).await.answers), [v4(0x1_0203)]);
    assert_negative(&world.ask("pay.shop.mesh.mesh.", RecordType::A).await, ResponseCode::NXDomain, "mesh.");
    assert_negative(&world.ask("www.mesh.", RecordType::A).await, ResponseCode::NXDomain, "mesh.");
}

#[tokio::test]
async fn ports_are_found_by_what_they_speak_and_by_number() {
    let world = World::start(&config(&[]));
    let own = |port: u16| (port, "pay.shop.mesh.".to_owned());
    for (name, ports) in [
        ("_http._tcp.pay.shop.mesh.", vec![80, 443]),
        ("_grpc._tcp.pay.shop.mesh.", vec![9000]),
        ("_tcp._tcp.pay.shop.mesh.", vec![5432]),
        ("_udp._udp.pay.shop.mesh.", vec![53]),
        ("_443._tcp.pay.shop.mesh.", vec![443]),
        ("_53._udp.pay.shop.mesh.", vec![53]),
        ("pay.shop.mesh.", vec![53, 80, 443, 5432, 9000]),
    ] {
        let answer = world.ask(name, RecordType::SRV).await;
        assert_eq!(services(&answer), ports.into_iter().map(own).collect::<Vec<_>>(), "{name}");
        assert_eq!(data(&answer.additionals), [v4(0x1_0203), v6(0x1_0203)], "{name}");
        assert!(answer.additionals.iter().all(|r| r.name.to_ascii() == "pay.shop.mesh."), "{name}");
        assert!(answer.answers.iter().all(|r| r.name.to_ascii() == name), "{name}");
    }
    let set = world.ask("_http._tcp.pay.shop.svc.clusterset.local.", RecordType::SRV).await;
    assert_eq!(services(&set)[0], (80, "pay.shop.svc.clusterset.local.".to_owned()));
    let pinned = world.ask("_http._tcp.pay.shop.at.phx.mesh.", RecordType::SRV).await;
    assert_eq!(services(&pinned), [(80, "pay.shop.at.phx.mesh.".to_owned())]);
    assert_eq!(data(&pinned.additionals), [v4(7), v6(7)]);
}

#[tokio::test]
async fn a_name_without_the_record_is_told_from_one_that_does_not_exist() {
    let world = World::start(&config(&[]));
    for (name, kind) in [
        ("pay.shop.mesh.", RecordType::MX),
        ("pay.shop.mesh.", RecordType::HTTPS),
        ("bare.shop.mesh.", RecordType::SRV),
        ("_http._tcp.pay.shop.mesh.", RecordType::A),
        ("_tcp.pay.shop.mesh.", RecordType::SRV),
        ("mesh.", RecordType::A),
    ] {
        assert_negative(&world.ask(name, kind).await, ResponseCode::NoError, "mesh.");
    }
    for name in ["clusterset.local.", "svc.clusterset.local.", "pay.shop.svc.clusterset.local."] {
        assert_negative(&world.ask(name, RecordType::MX).await, ResponseCode::NoError, "clusterset.local.");
    }
    for name in [
        "nobody.shop.mesh.",
        "pay.shop.at.nowhere.mesh.",
        "_http._udp.pay.shop.mesh.",
        "_81._tcp.pay.shop.mesh.",
        "_udp.many.shop.mesh.",
        "_http._tcp.nobody.shop.mesh.",
        "www.example.com.mesh.",
    ] {
        assert_negative(&world.ask(name, RecordType::SRV).await, ResponseCode::NXDomain, "mesh.");
    }
    let in_one_cluster = world.ask("phx.pay.shop.svc.clusterset.local.", RecordType::A).await;
    assert_negative(&in_one_cluster, ResponseCode::NXDomain, "clusterset.local.");
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_found_out_about_once_in_a_while() {
    let world = World::start(&config(&[]));
    for kind in [RecordType::A, RecordType::AAAA, RecordType::A, RecordType::SRV] {
        assert_negative(&world.ask("nobody.shop.mesh.", kind).await, ResponseCode::NXDomain, "mesh.");
    }
    assert_eq!(world.table.resolve_asked.load(Ordering::Relaxed), 1);
    assert_eq!(world.table.known_asked.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_family_that_is_off_has_no_records() {
    let mut only_v6 = config(&[]);
    (only_v6.ipv4, only_v6.zone) = (false, Name::from_ascii("mesh.internal.").unwrap());
    (only_v6.ttl, only_v6.clusterset) = (Duration::from_secs(3), false);
    let world = World::start(&only_v6);
    assert_negative(
        &world.ask("pay.shop.mesh.internal.", RecordType::A).await,
        ResponseCode::NoError,
        "mesh.internal.",
    );
    let answer = world.ask("pay.shop.mesh.internal.", RecordType::AAAA).await;
    assert_eq!((data(&answer.answers), answer.answers[0].ttl), (vec![v6(0x1_0203)], 3));
    let any = world.ask("pay.shop.mesh.internal.", RecordType::ANY).await;
    assert_eq!(data(&any.answers), [v6(0x1_0203)]);
    let srv = world.ask("_http._tcp.pay.shop.mesh.internal.", RecordType::SRV).await;
    assert_eq!(data(&srv.additionals), [v6(0x1_0203)]);
    let set = world.ask("pay.shop.svc.clusterset.local.", RecordType::A).await;
    assert_eq!(set.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn the_zones_say_what_they_are() {
    let world = World::start(&config(&[]));
    let soa = world.ask("mesh.", RecordType::SOA).await;
    assert_eq!((soa.answers.len(), soa.answers[0].record_type()), (1, RecordType::SOA));
    let version = world.ask("dns-version.clusterset.local.", RecordType::TXT).await;
    assert_eq!(data(&version.answers), [RData::TXT(TXT::new(vec!["1.0.0".to_owned()]))]);
    assert_eq!(version.answers[0].ttl, 28_800);
    let any = world.ask("pay.shop.mesh.", RecordType::ANY).await;
    assert_eq!(data(&any.answers), [v4(0x1_0203)]);
}

#[tokio::test]
async fn an_address_has_its_name() {
    let world = World::start(&config(&[]));
    for (number, name) in [(0x1_0203, "pay.shop.mesh."), (7, "pay.shop.at.phx.mesh.")] {
        for ip in [IpAddr::from(vip(number).v4()), vip(number).v6().into()] {
            let answer = world.ask(&Name::from(ip).to_ascii(), RecordType::PTR).await;
            assert_eq!(data(&answer.answers), [RData::PTR(PTR(Name::from_ascii(name).unwrap()))], "{ip}");
        }
    }
    let unknown = world.ask("1.1.1.240.in-addr.arpa.", RecordType::PTR).await;
    assert_negative(&unknown, ResponseCode::NXDomain, "240.in-addr.arpa.");
}

#[tokio::test]
async fn a_name_that_cannot_be_told_is_a_failure_with_its_reason() {
    let world = World::start(&config(&[]));
    let answer = world.ask("gone.shop.mesh.", RecordType::A).await;
    assert_eq!(answer.response_code, ResponseCode::ServFail);
    assert_eq!(extended_error(&answer), Some((22, "no gateway answers".to_owned())));
    let answer = ask_udp(world.address, &plain("gone.shop.mesh.", RecordType::A)).await;
    assert_eq!(answer.response_code, ResponseCode::ServFail);
    assert!(answer.edns.is_none());
    assert_eq!(world.table.resolve_asked.load(Ordering::Relaxed), 2, "it is asked for again");
}

#[tokio::test]
async fn a_long_answer_is_cut_over_udp_and_whole_over_tcp() {
    let world = World::start(&config(&[]));
    for (question, at_most) in [
        (question("many.shop.mesh.", RecordType::SRV), 1232),
        (plain("many.shop.mesh.", RecordType::SRV), 512),
    ] {
        let bytes = exchange(world.address, &question.to_vec().unwrap()).await;
        let answer = Message::from_vec(&bytes).unwrap();
        assert!(
            bytes.len() <= at_most && answer.truncation && answer.additionals.is_empty(),
            "{}",
            bytes.len()
        );
        assert!((1..64).contains(&answer.answers.len()));
        assert_eq!(answer.edns.is_some(), question.edns.is_some());
    }
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let answer = ask_tcp(&mut stream, &plain("many.shop.mesh.", RecordType::SRV)).await;
    assert_eq!((answer.truncation, answer.answers.len(), answer.additionals.len()), (false, 64, 2));
}

#[tokio::test]
async fn what_is_not_a_question_for_us_is_refused_by_its_code() {
    let world = World::start(&config(&[]));
    for (op, expected) in [(OpCode::Update, ResponseCode::NotImp), (OpCode::Notify, ResponseCode::NotImp)] {
        let mut message = question("mesh.", RecordType::SOA);
        message.metadata.op_code = op;
        assert_eq!(ask_udp(world.address, &message).await.response_code, expected);
    }
    for name in ["mesh.", "example."] {
        for kind in [RecordType::AXFR, RecordType::IXFR] {
            assert_eq!(
                ask_udp(world.address, &question(name, kind)).await.response_code,
                ResponseCode::Refused
            );
        }
    }
    let mut chaos = question("version.bind.", RecordType::TXT);
    chaos.queries[0].query_class = DNSClass::CH;
    assert_eq!(ask_udp(world.address, &chaos).await.response_code, ResponseCode::Refused);
    let mut newer = question("pay.shop.mesh.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    newer.set_edns(edns);
    let answer = ask_udp(world.address, &newer).await;
    assert_eq!((u16::from(answer.response_code), answer.edns.unwrap().version()), (16, 0));
    let mut packet = question("pay.shop.mesh.", RecordType::A).to_vec().unwrap();
    packet.truncate(20);
    let answer = Message::from_vec(&exchange(world.address, &packet).await).unwrap();
    assert_eq!((answer.id, answer.response_code), (0x1234, ResponseCode::FormErr));
}
