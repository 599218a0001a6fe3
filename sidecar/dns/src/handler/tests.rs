use super::*;
use crate::Upstreams;
use causeway_model::Vip;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use proptest::prelude::*;
use std::pin::Pin;

/// Knows every service but one, whatever its name.
struct All;

impl Names for All {
    fn known(&self, name: &VipName) -> Option<Resolved> {
        let known = name.service.service().as_str() != "nobody";
        known.then(|| Resolved {
            vip: Vip::new(1).unwrap(),
            ports: vec!["80/http".parse().unwrap()].try_into().unwrap(),
        })
    }

    fn resolve(&self, _: VipName) -> Pin<Box<dyn Future<Output = Result<Resolved, NameError>> + Send>> {
        Box::pin(std::future::pending())
    }

    fn name_of(&self, _: Vip) -> Option<VipName> {
        "pay.shop@phx".parse().ok()
    }
}

fn handler(upstreams: &[SocketAddr]) -> Handler {
    let config = DnsConfig { upstream: Upstreams::None, ..DnsConfig::default() };
    Handler::new(&config, upstreams, Arc::new(All), DnsMetrics::new())
}

fn asked(name: &Name, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(1, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(name.clone(), kind)).set_edns(Edns::new());
    message.to_vec().unwrap()
}

/// Takes a message; what is sent must be a response that can be read and is not too long.
fn take(handler: &Handler, packet: &[u8], transport: Transport) -> Option<Message> {
    let mut out = Vec::new();
    match handler.begin(packet, transport, &mut out) {
        Step::Send => {
            assert!(transport == Transport::Tcp || out.len() <= 1232);
            let answer = Message::from_vec(&out).unwrap();
            assert_eq!((answer.message_type, &out[..2]), (MessageType::Response, &packet[..2]));
            Some(answer)
        }
        Step::Drop | Step::Wait(_) => None,
    }
}

#[test]
fn what_needs_nobody_is_said_at_once() {
    let handler = handler(&[]);
    let at_once =
        |name: &str| take(&handler, &asked(&Name::from_ascii(name).unwrap(), RecordType::A), Transport::Udp);
    for name in ["pay.shop.mesh.", "www.mesh.", "mesh.", "1.0.0.240.in-addr.arpa.", "example."] {
        assert!(at_once(name).is_some(), "{name}");
    }
    assert!(at_once("nobody.shop.mesh.").is_none());
}

proptest! {
    #[test]
    fn no_bytes_panic(packet in proptest::collection::vec(any::<u8>(), 0..200)) {
        let handler = handler(&["192.0.2.1:53".parse().unwrap()]);
        take(&handler, &packet, Transport::Udp);
        take(&handler, &packet, Transport::Tcp);
    }

    #[test]
    fn no_name_or_type_panics(
        labels in proptest::collection::vec("(_?[a-zA-Z0-9-]{1,9}|at|svc|_tcp|_http|pay)", 0..6),
        zone in prop::sample::select(vec!["mesh.", "svc.clusterset.local.", "240.in-addr.arpa.", "example."]),
        kind in any::<u16>(),
        at in 0usize..80,
        byte in any::<u8>(),
    ) {
        let handler = handler(&[]);
        let name = Name::from_labels(labels.iter().map(String::as_bytes)).unwrap();
        let name = name.append_domain(&Name::from_ascii(zone).unwrap()).unwrap();
        let mut packet = asked(&name, RecordType::from(kind));
        take(&handler, &packet, Transport::Udp);
        if let Some(slot) = packet.get_mut(at) {
            *slot = byte;
        }
        take(&handler, &packet, Transport::Udp);
        take(&handler, &packet, Transport::Tcp);
    }
}

/// Prints what one answer costs without the system calls; only worth anything in a release build.
#[test]
#[ignore = "a measurement: cargo test --release -p causeway-dns -- --ignored --nocapture costs"]
fn what_an_answer_costs() {
    let handler = handler(&[]);
    let mut out = Vec::with_capacity(512);
    for (name, kind) in [
        ("pay.shop.mesh.", RecordType::A),
        ("pay.shop.at.phx.mesh.", RecordType::AAAA),
        ("_http._tcp.pay.shop.mesh.", RecordType::SRV),
        ("www.example.com.mesh.", RecordType::A),
    ] {
        let packet = asked(&Name::from_ascii(name).unwrap(), kind);
        let (rounds, begin) = (200_000, Instant::now());
        for _ in 0..rounds {
            assert!(matches!(handler.begin(&packet, Transport::Udp, &mut out), Step::Send));
        }
        println!("{name} {kind}: {:?}", begin.elapsed() / rounds);
    }
}
