//! What is not the mesh's.

use crate::upstream::{Upstream, address, answer};
use crate::world::{World, ask_tcp, ask_udp, config, data, extended_error, plain, question, until};
use causeway_dns::{DnsConfig, DnsMetrics, DnsServer, NameError, Names, Resolved};
use causeway_model::VipName;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{CNAME, NULL, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpStream, UdpSocket};

fn name(name: &str) -> Name {
    Name::from_ascii(name).unwrap()
}

fn quick(upstreams: &[SocketAddr]) -> DnsConfig {
    let mut config = config(upstreams);
    config.limits.upstream_timeout = Duration::from_millis(200);
    config
}

#[tokio::test]
async fn an_answer_is_passed_on_as_the_upstream_gave_it() {
    let upstream = Upstream::start(|question, _| {
        let mut message = answer(question, ResponseCode::NXDomain);
        let own = question.queries[0].name().clone();
        message.metadata.authentic_data = question.checking_disabled;
        message.add_answer(Record::from_rdata(own, 60, RData::CNAME(CNAME(name("there.example.")))));
        let unknown = RData::Unknown { code: RecordType::Unknown(65_000), rdata: NULL::with(vec![1, 2, 3]) };
        message.add_answer(Record::from_rdata(name("there.example."), 60, unknown));
        let soa = SOA::new(name("ns.example."), name("me.example."), 1, 2, 3, 4, 5);
        message.add_authority(Record::from_rdata(name("example."), 60, RData::SOA(soa)));
        Some(message)
    })
    .await;
    let world = World::start(&config(&[upstream.address]));
    let mut asked = question("heRe.exAmple.", RecordType::Unknown(65_000));
    asked.metadata.checking_disabled = true;
    for _ in 0..2 {
        let got = ask_udp(world.address, &asked).await;
        assert_eq!(got.response_code, ResponseCode::NXDomain);
        assert!(got.authentic_data && got.checking_disabled && got.recursion_available && !got.authoritative);
        assert_eq!(got.queries[0].name().to_ascii(), "heRe.exAmple.");
        assert_eq!((got.answers.len(), got.authorities.len()), (2, 1));
        assert_eq!(data(&got.answers)[0], RData::CNAME(CNAME(name("there.example."))));
    }
    assert_eq!(upstream.asked(), 1, "the second one from memory");
    assert_eq!((world.metrics.cache_hits.get(), world.metrics.cache_misses.get()), (1, 1));
}

#[tokio::test]
async fn names_that_only_look_like_ours_are_forwarded() {
    let upstream = Upstream::start(|question, _| Some(address(question, 60, 1))).await;
    let world = World::start(&config(&[upstream.address]));
    for name in [
        "pay.",
        "pay.shop.",
        "pay.shop.default.svc.cluster.local.",
        "pay.shop.mesh.example.",
        "8.8.8.8.in-addr.arpa.",
    ] {
        assert_eq!(world.ask(name, RecordType::A).await.answers.len(), 1, "{name}");
    }
    assert_eq!(upstream.asked(), 5);
    world.ask("nobody.shop.mesh.", RecordType::A).await;
    world.ask("1.0.0.240.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!(upstream.asked(), 5, "ours never leave");
}

#[tokio::test]
async fn what_may_not_be_kept_is_asked_for_again() {
    let upstream = Upstream::start(|question, _| {
        let code = if question.queries[0].name() == &name("none.example.") {
            ResponseCode::NXDomain
        } else {
            ResponseCode::NoError
        };
        Some(if code == ResponseCode::NXDomain { answer(question, code) } else { address(question, 0, 1) })
    })
    .await;
    let world = World::start(&config(&[upstream.address]));
    for name in ["zero.example.", "none.example."] {
        world.ask(name, RecordType::A).await;
        world.ask(name, RecordType::A).await;
    }
    assert_eq!(upstream.asked(), 4);
}

#[tokio::test]
async fn equal_questions_at_the_same_time_are_one_to_the_upstream() {
    let upstream = Upstream::start(|question, _| Some(address(question, 60, 1))).await;
    upstream.close();
    let world = World::start(&config(&[upstream.address]));
    let to = world.address;
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let mut asked =
                question(if n % 2 == 0 { "same.example." } else { "SAME.example." }, RecordType::A);
            asked.metadata.id = n;
            tokio::spawn(async move { ask_udp(to, &asked).await })
        })
        .collect();
    until("all questions wait", || world.metrics.pending.get() == 20).await;
    until("the upstream was asked", || upstream.asked() == 1).await;
    upstream.open();
    for task in tasks {
        assert_eq!(task.await.unwrap().answers.len(), 1);
    }
    assert_eq!(upstream.asked(), 1);
    assert_eq!(world.metrics.pending.get(), 0);
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_passed_over() {
    let silent = Upstream::start(|_, _| None).await;
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let good = Upstream::start(|question, _| Some(address(question, 60, 1))).await;
    let world = World::start(&quick(&[silent.address, closed, good.address]));
    assert_eq!(world.ask("one.example.", RecordType::A).await.answers.len(), 1);
    let before = silent.asked();
    assert_eq!(before, 1);
    assert_eq!(world.ask("two.example.", RecordType::A).await.answers.len(), 1);
    assert_eq!((silent.asked(), good.asked()), (before, 2), "it is asked after those that answer");
}

#[tokio::test]
async fn a_refusal_of_one_upstream_is_not_the_answer_if_another_one_knows() {
    let refuses = Upstream::start(|question, _| Some(answer(question, ResponseCode::Refused))).await;
    let good = Upstream::start(|question, _| Some(address(question, 60, 1))).await;
    let world = World::start(&quick(&[refuses.address, good.address]));
    assert_eq!(world.ask("one.example.", RecordType::A).await.answers.len(), 1);
    assert_eq!((refuses.asked(), good.asked()), (1, 1));
    let world = World::start(&quick(&[refuses.address]));
    assert_eq!(world.ask("one.example.", RecordType::A).await.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn without_an_upstream_that_answers_the_failure_says_so() {
    let silent = Upstream::start(|_, _| None).await;
    let world = World::start(&quick(&[silent.address]));
    let got = world.ask("one.example.", RecordType::A).await;
    assert_eq!(got.response_code, ResponseCode::ServFail);
    let (code, text) = extended_error(&got).unwrap();
    assert!(code == 22 && text.contains(&silent.address.to_string()), "{text}");
    assert_eq!(silent.asked(), 2, "a datagram may be lost");
    assert_eq!(data(&world.ask("pay.shop.mesh.", RecordType::A).await.answers).len(), 1);
}

#[tokio::test]
async fn answers_that_are_forged_are_not_taken() {
    let upstream = Upstream::start(|question, _| {
        let mut message = address(question, 60, 1);
        match question.queries[0].name().to_ascii().as_str() {
            "id.example." => message.metadata.id = !question.id,
            _ => message.queries[0].name = name("other.example."),
        }
        Some(message)
    })
    .await;
    let world = World::start(&quick(&[upstream.address]));
    for name in ["id.example.", "name.example."] {
        assert_eq!(world.ask(name, RecordType::A).await.response_code, ResponseCode::ServFail, "{name}");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_is_fetched_over_tcp() {
    let upstream = Upstream::start(|question, tcp| {
        let mut message = answer(question, ResponseCode::NoError);
        message.metadata.truncation = !tcp;
        if tcp {
            let text = |n: u8| {
                Record::from_rdata(
                    question.queries[0].name().clone(),
                    60,
                    address(question, 60, n).answers[0].data.clone(),
                )
            };
            message.add_answers((0..200).map(text));
        }
        Some(message)
    })
    .await;
    let world = World::start(&config(&[upstream.address]));
    let cut = world.ask("long.example.", RecordType::A).await;
    assert!(cut.truncation && cut.answers.is_empty());
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let whole = ask_tcp(&mut stream, &question("long.example.", RecordType::A)).await;
    assert_eq!((whole.truncation, whole.answers.len()), (false, 200));
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test]
async fn an_asker_without_edns_is_forwarded_without() {
    let upstream = Upstream::start(|question, _| {
        Some(answer(
            question,
            if question.edns.is_some() { ResponseCode::FormErr } else { ResponseCode::NoError },
        ))
    })
    .await;
    let world = World::start(&config(&[upstream.address]));
    let got = ask_udp(world.address, &plain("old.example.", RecordType::A)).await;
    assert_eq!(got.response_code, ResponseCode::NoError);
    assert_eq!(world.ask("old.example.", RecordType::A).await.response_code, ResponseCode::FormErr);
}

/// A resolver that sends everything back.
async fn mirror(to: impl Future<Output = SocketAddr> + Send + 'static, socket: UdpSocket) {
    let (to, mut packet) = (to.await, vec![0; 4096]);
    let socket = Arc::new(socket);
    while let Ok((len, from)) = socket.recv_from(&mut packet).await {
        let (socket, packet) = (Arc::clone(&socket), packet[..len].to_vec());
        tokio::spawn(async move {
            let answer = crate::world::exchange(to, &packet).await;
            let _ = socket.send_to(&answer, from).await;
        });
    }
}

#[tokio::test]
async fn an_upstream_that_sends_questions_back_is_found_and_left_out() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let upstream = socket.local_addr().unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    tokio::spawn(mirror(async { told.await.unwrap() }, socket));
    let world = World::start(&config(&[upstream]));
    tell.send(world.address).unwrap();
    until("the loop is found", || world.metrics.loops.get() == 1).await;
    let got = world.ask("one.example.", RecordType::A).await;
    assert_eq!(got.response_code, ResponseCode::ServFail);
    assert!(extended_error(&got).unwrap().1.contains("back to this server"));
    assert_eq!(world.ask("pay.shop.mesh.", RecordType::A).await.answers.len(), 1);
}

struct Nobody;

impl Names for Nobody {
    fn known(&self, _: &VipName) -> Option<Resolved> {
        None
    }

    fn resolve(&self, _: VipName) -> Pin<Box<dyn Future<Output = Result<Resolved, NameError>> + Send>> {
        Box::pin(async { Err(NameError::Unknown) })
    }
}

#[tokio::test]
async fn a_server_that_is_its_own_upstream_does_not_begin() {
    let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let mut config = config(&[address]);
    config.listen = vec![address];
    let bind = |config: &DnsConfig| DnsServer::bind(config, Arc::new(Nobody), DnsMetrics::new()).unwrap_err();
    let error = bind(&config);
    assert!(error.reason() == "dns-bind" && error.to_string().contains(&address.to_string()), "{error}");
    drop(taken);
    let error = bind(&config);
    assert!(error.reason() == "dns-loop" && error.to_string().contains("circles"), "{error}");
    config.listen.clear();
    assert_eq!(bind(&config).reason(), "dns-no-listener");
}
