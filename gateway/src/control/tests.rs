use super::*;
use crate::hub::fixture::{Client, Fixture, SOON};
use causeway_catalog::{CreateToken, TokenKind, Verifier};
use causeway_identity::KeyPair;
use causeway_model::{Health, RevokedSubject, WorkloadId};
use causeway_transport::{close_reason_text, exporter};
use causeway_wire::alpn;
use causeway_wire::ctl::{AskVip, FindVip, Hello, Join, Register, Renew, ReportHealth};
use causeway_wire::token::{EXPORTER_LABEL, join_proof};
use std::time::Instant;
use tokio::time::timeout;

const ID: &str = "spiffe://iad.mesh/ns/shop/sa/payments";

/// A sidecar that says what it likes.
struct Sidecar {
    client: Client,
    writer: FrameWriter,
    reader: FrameReader,
}

impl Sidecar {
    async fn start(gateway: &Fixture, workload: Option<WorkloadId>) -> Self {
        let id = id(gateway);
        let client = gateway.connect(alpn::CTL, &gateway.hub.ca().unwrap(), &id).await;
        let (send, receive) = client.connection.open_bi().await.unwrap();
        let mut sidecar = Self { client, writer: FrameWriter::new(send), reader: FrameReader::new(receive) };
        sidecar.say(Hello { version: VersionInfo::current(), workload }).await;
        sidecar
    }

    async fn say(&mut self, message: impl Into<ToGateway>) {
        timeout(SOON, self.writer.send::<ToGateway>(&message.into())).await.unwrap().unwrap();
    }

    /// The next message that `pick` takes; everything before it is passed over.
    async fn hear<T>(&mut self, pick: impl Fn(ToSidecar) -> Option<T>) -> T {
        let heard = async {
            loop {
                let message = self.reader.next::<ToSidecar>().await.unwrap().unwrap();
                if let Some(found) = pick(message) {
                    return found;
                }
            }
        };
        timeout(SOON, heard).await.unwrap()
    }

    async fn registered(&mut self) -> u32 {
        self.hear(|message| match message {
            ToSidecar::Registered(registered) => Some(registered.request),
            _ => None,
        })
        .await
    }
}

fn id(gateway: &Fixture) -> SpiffeId {
    let domain = &gateway.hub.node.cluster().trust_domain;
    ID.replace("iad.mesh", domain.as_str()).parse().unwrap()
}

fn workload(gateway: &Fixture) -> WorkloadId {
    gateway.hub.mint_workload(&id(gateway)).unwrap()
}

fn register(request: u32) -> Register {
    Register { request, services: Vec::new(), locality: None, weight: 1, overlay: Vec::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_reports_is_slowed_down_and_nothing_of_it_is_lost() {
    let gateway = Fixture::start().await;
    let mut sidecar = Sidecar::start(&gateway, Some(workload(&gateway))).await;
    sidecar.say(register(1)).await;
    assert_eq!(sidecar.registered().await, 1);
    let began = Instant::now();
    let report = || ReportHealth { service: "payments.shop".parse().unwrap(), health: Health::Healthy };
    // the burst, and half a second's worth
    for _ in 0..562 {
        sidecar.say(report()).await;
    }
    sidecar.say(register(2)).await;
    assert_eq!(sidecar.registered().await, 2);
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    let text = gateway.metrics();
    assert!(!text.contains("causeway_messages_delayed_total{protocol=\"ctl\"} 0\n"), "{text}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_slowed_down_before_and_after_a_sidecar_is_attached() {
    let gateway = Fixture::start().await;
    for workload in [None, Some(workload(&gateway))] {
        let mut sidecar = Sidecar::start(&gateway, workload).await;
        // an answer to each of the first ones, and to the one that makes the rest wait
        for request in 1..=6 {
            sidecar.say(Renew { request, csr: vec![0; 9000] }).await;
        }
        let refused = |message| match message {
            ToSidecar::Refused(refused) => Some((refused.request, refused.reason)),
            _ => None,
        };
        for request in 1..=5 {
            assert_eq!(sidecar.hear(refused).await, (request, "csr-too-large".into()));
        }
        let sixth = timeout(Duration::from_millis(300), sidecar.hear(refused)).await;
        assert!(sixth.is_err(), "it has to wait");
    }
    gateway.shows("causeway_messages_delayed_total{protocol=\"ctl\"} 2").await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_has_a_few_connections_and_a_further_one_is_told_the_numbers() {
    let gateway = Fixture::start().await;
    let workload = workload(&gateway);
    let mut held = Vec::new();
    for request in 1..=8 {
        let mut sidecar = Sidecar::start(&gateway, Some(workload)).await;
        sidecar.say(register(request)).await;
        assert_eq!(sidecar.registered().await, request);
        held.push(sidecar);
    }
    gateway.shows("causeway_control_connections 8").await;
    let beyond = Sidecar::start(&gateway, Some(workload)).await;
    let closed = timeout(SOON, beyond.client.connection.closed()).await.unwrap();
    let text = close_reason_text(&closed);
    assert!(text.contains("overloaded") && text.contains("has 8 control connections"), "{text}");
    held.pop();
    gateway.shows("causeway_control_connections 7").await;
    let mut again = Sidecar::start(&gateway, Some(workload)).await;
    again.say(register(9)).await;
    assert_eq!(again.registered().await, 9);
    drop((held, again, beyond));
    gateway.shows("causeway_control_connections 0").await;
    assert!(gateway.hub.soft().attached.is_empty());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_later_releases_are_counted() {
    let gateway = Fixture::start().await;
    let mut sidecar = Sidecar::start(&gateway, Some(workload(&gateway))).await;
    for kind in [900_u16, 901, 902] {
        let frame = [&4_u32.to_be_bytes()[..], &kind.to_be_bytes(), &1_u16.to_be_bytes()].concat();
        sidecar.writer.get_mut().write_all(&frame).await.unwrap();
    }
    gateway.shows("causeway_frames_skipped_total{protocol=\"ctl\"} 3").await;
    sidecar.say(register(1)).await;
    assert_eq!(sidecar.registered().await, 1);
    gateway.stop().await;
}

/// A sidecar without a certificate says `message`; the reason if it is refused.
async fn ask(
    gateway: &Fixture,
    message: impl FnOnce(&causeway_transport::Connection) -> Join,
) -> Result<(), String> {
    let client = gateway.dial(alpn::CTL, None).await;
    let (send, receive) = client.connection.open_bi().await.unwrap();
    let mut sidecar = Sidecar { client, writer: FrameWriter::new(send), reader: FrameReader::new(receive) };
    sidecar.say(Hello { version: VersionInfo::current(), workload: None }).await;
    let message = message(&sidecar.client.connection);
    sidecar.say(message).await;
    let answer = |message| match message {
        ToSidecar::Issued(_) => Some(Ok(())),
        ToSidecar::Refused(refusal) => Some(Err(refusal.reason)),
        _ => None,
    };
    sidecar.hear(answer).await
}

/// Asks with `key` for what token 7 gives.
async fn join(gateway: &Fixture, key: &KeyPair) -> Result<(), String> {
    let (token, csr) = (7_u64.to_be_bytes(), key.csr().unwrap());
    let joins = |connection: &causeway_transport::Connection| {
        let bound = exporter(connection, EXPORTER_LABEL, b"").unwrap();
        Join { request: 1, token, proof: join_proof(&[7; 32], &bound, &csr), csr }
    };
    ask(gateway, joins).await
}

/// Makes token 7 for `uses` workloads.
async fn make_token(gateway: &Fixture, uses: u32) {
    let id = 7_u64.to_be_bytes();
    let verifier = Verifier(gateway.hub.node.mask_verifier(&id, [7; 32]).unwrap());
    let kind = TokenKind::Workload { identity: self::id(gateway), services: Vec::new() };
    let expires_at = causeway_runtime::clock::unix_now() + 600;
    let token = CreateToken { id: id.into(), verifier, kind, uses, expires_at };
    gateway.hub.propose("test", token).await.unwrap();
}

/// How often the registry was written to, and how much its audit has.
fn written(gateway: &Fixture) -> (causeway_model::Revision, usize) {
    let catalog = gateway.hub.catalog();
    (catalog.revision(), catalog.audit().len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_the_answer_may_ask_again_and_nobody_else_may() {
    let gateway = Fixture::start().await;
    make_token(&gateway, 2).await;
    let [first, second, other] = [(); 3].map(|()| KeyPair::generate().unwrap());
    assert_eq!(join(&gateway, &first).await, Ok(()));
    let once = written(&gateway);
    // while a use is left, and when none is
    assert_eq!(join(&gateway, &first).await, Ok(()));
    assert_eq!(written(&gateway), once);
    assert_eq!(join(&gateway, &second).await, Ok(()));
    let twice = written(&gateway);
    assert!(twice > once);
    for _ in 0..3 {
        assert_eq!(join(&gateway, &first).await, Ok(()));
        assert_eq!(join(&gateway, &other).await, Err("token-used-up".to_owned()));
    }
    assert_eq!(written(&gateway), twice, "a spent token writes nothing, and pushes nothing out of the audit");
    // a token that is revoked is so for everybody
    let id = 7_u64.to_be_bytes().into();
    gateway.hub.propose("test", causeway_catalog::RevokeToken { id }).await.unwrap();
    for key in [&first, &other] {
        assert_eq!(join(&gateway, key).await, Err("token-revoked".to_owned()));
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_stranger_is_parsed_before_its_proof() {
    let gateway = Fixture::start().await;
    make_token(&gateway, 1).await;
    let rubbish = |token: u64, len| {
        let join = Join { request: 1, token: token.to_be_bytes(), proof: [0; 32], csr: vec![0; len] };
        ask(&gateway, |_| join)
    };
    assert_eq!(rubbish(7, 9000).await, Err("csr-too-large".to_owned()));
    assert_eq!(rubbish(7, 100).await, Err("token-unknown".to_owned()));
    assert_eq!(rubbish(8, 100).await, Err("token-unknown".to_owned()));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_leader_no_registration_is_refused_for_good() {
    let gateway = Fixture::start().await;
    let sidecar = session::Sidecar {
        identity: id(&gateway),
        workload: workload(&gateway),
        release: "1.0.0".into(),
        svid_keys: vec![[7; 32]],
    };
    let served = causeway_wire::ctl::ServedService {
        name: "payments.shop".parse().unwrap(),
        ports: vec!["8080/tcp".parse().unwrap()].try_into().unwrap(),
        health: Health::Healthy,
    };
    let asked = Register { services: vec![served], ..register(1) };
    let refused = register::register(&gateway.hub, &sidecar, &asked).await.unwrap_err();
    assert_eq!(refused.reason, "service-unknown", "the leader says so");
    gateway.hub.registry.shutdown().await.unwrap();
    let refused = register::register(&gateway.hub, &sidecar, &asked).await.unwrap_err();
    assert!(["no-quorum", "registry-failed", "timeout"].contains(&refused.reason.as_str()), "{refused:?}");
    gateway.stop().await;
}

/// Lets the registry know a service of that name.
async fn declare(gateway: &Fixture, id: u64, service: &str) {
    let services = vec![causeway_catalog::ServiceDeclaration {
        name: service.parse().unwrap(),
        ports: causeway_model::PortSet::default(),
    }];
    let kind = TokenKind::Workload { identity: self::id(gateway), services };
    let expires_at = causeway_runtime::clock::unix_now() + 600;
    let id = id.to_be_bytes().into();
    let token = CreateToken { id, verifier: Verifier([0; 32]), kind, uses: 1, expires_at };
    gateway.hub.propose("test", token).await.unwrap();
}

impl Sidecar {
    /// The answer to a question for a virtual address, with the number of the question.
    async fn vip(&mut self, question: impl Into<ToGateway>) -> (u32, Result<(String, u32), String>) {
        self.say(question).await;
        self.hear(|message| match message {
            ToSidecar::VipIs(is) => Some((is.request, Ok((is.name.to_string(), is.vip.get())))),
            ToSidecar::Refused(refused) => Some((refused.request, Err(refused.reason))),
            _ => None,
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sidecar_is_told_the_same_virtual_address() {
    let gateway = Fixture::start().await;
    let ask = |request, name: &str| AskVip { request, name: name.parse().unwrap() };
    let mut first = Sidecar::start(&gateway, Some(workload(&gateway))).await;
    assert_eq!(first.vip(ask(1, "web.shop")).await, (1, Err("service-unknown".into())));
    declare(&gateway, 1, "web.shop").await;
    let (request, told) = first.vip(ask(2, "web.shop")).await;
    let (name, number) = told.unwrap();
    assert_eq!((request, name.as_str()), (2, "web.shop"));
    let pinned = format!("web.shop@{}", gateway.hub.node.cluster().name);
    let (_, other) = first.vip(ask(3, &pinned)).await;
    assert_eq!(other.clone().unwrap().0, pinned);
    assert_ne!(other.unwrap().1, number);

    let mut second = Sidecar::start(&gateway, Some(workload(&gateway))).await;
    assert_eq!(second.vip(ask(7, "web.shop")).await, (7, Ok((name.clone(), number))));
    let vip = causeway_model::Vip::new(number).unwrap();
    assert_eq!(second.vip(FindVip { request: 8, vip }).await, (8, Ok((name, number))));
    let nobodys = causeway_model::Vip::new(number ^ 1).unwrap();
    assert_eq!(second.vip(FindVip { request: 9, vip: nobodys }).await, (9, Err("vip-unknown".into())));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_names_is_answered_and_keeps_the_session_from_nothing() {
    let gateway = Fixture::start().await;
    for n in 0..8 {
        declare(&gateway, n, &format!("s{n}.shop")).await;
    }
    let mut sidecar = Sidecar::start(&gateway, Some(workload(&gateway))).await;
    for n in 0..200_u32 {
        sidecar.say(AskVip { request: n + 1, name: format!("s{}.shop", n % 8).parse().unwrap() }).await;
    }
    sidecar.say(register(1_000)).await;
    let (mut vips, mut registered) = (std::collections::BTreeSet::new(), false);
    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < 200 || !registered {
        let heard = sidecar.hear(|message| match message {
            ToSidecar::VipIs(is) => Some(Some(is)),
            ToSidecar::Registered(_) => Some(None),
            ToSidecar::Refused(refused) => panic!("{refused:?}"),
            _ => None,
        });
        match heard.await {
            Some(is) => {
                assert!(answered.insert(is.request));
                vips.insert((is.name, is.vip));
            }
            None => registered = true,
        }
    }
    assert_eq!(vips.len(), 8);
    gateway.stop().await;
}

/// The trust that a sidecar was told of, up to the next time that it is told which bundles count.
async fn told_trust(sidecar: &mut Sidecar) -> (Vec<String>, Vec<String>) {
    let mut bundles = Vec::new();
    loop {
        let told = sidecar
            .hear(|message| match message {
                ToSidecar::Bundle(_) | ToSidecar::Bundles(_) => Some(message),
                _ => None,
            })
            .await;
        match told {
            ToSidecar::Bundle(told) => bundles.push(told.bundle.trust_domain.to_string()),
            ToSidecar::Bundles(told) => {
                return (bundles, told.domains.iter().map(ToString::to_string).collect());
            }
            _ => {}
        }
    }
}

/// Each of them fits into a message, and all of them together would not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_links_with_full_lists_of_revocations_cut_no_sidecar_off() {
    let gateway = Fixture::start().await;
    let own = gateway.hub.node.cluster().trust_domain.to_string();
    let mut expected = vec![own.clone()];
    for n in 2..8u32 {
        let cluster = format!("c{n}");
        let peer = causeway_model::ClusterFacts {
            name: cluster.parse().unwrap(),
            id: causeway_model::ClusterId::new(n).unwrap(),
            trust_domain: format!("{cluster}.mesh").parse().unwrap(),
            locality: gateway.hub.node.locality().clone(),
        };
        let ca =
            causeway_identity::ClusterCa::create(&peer.trust_domain, std::time::SystemTime::now()).unwrap();
        let (roots, gateways) = (vec![ca.root_der().to_vec()], gateway.hub.gateways());
        let name = |m: usize| {
            format!("spiffe://{cluster}.mesh/ns/shop/sa/{m:04}/{}", vec!["a".repeat(60); 3].join("/"))
        };
        let one = |m| causeway_model::Revocation { subject: name(m).parse().unwrap(), issued_before: 1 };
        let revoked: Vec<_> = (0..1000).map(one).collect();
        assert!(causeway_model::trust_len(&roots, &revoked) > 200_000);
        let link = causeway_catalog::EstablishLink {
            invite: None,
            peer,
            roots: roots.clone(),
            gateways: gateways.clone(),
            key: causeway_catalog::LinkKey([3; 32]),
            merge_namespaces: causeway_catalog::MergeRule::All,
        };
        gateway.hub.propose("test", link).await.unwrap();
        let update = causeway_catalog::UpdateLinkPeer {
            cluster: cluster.parse().unwrap(),
            gateways,
            roots,
            peer_revision: causeway_model::Revision(1),
            revoked,
            paused: false,
        };
        gateway.hub.propose("test", update).await.unwrap();
        expected.push(format!("{cluster}.mesh"));
    }
    expected.sort();
    let mut sidecar = Sidecar::start(&gateway, Some(workload(&gateway))).await;
    let (mut bundles, mut domains) = told_trust(&mut sidecar).await;
    // the last of the links may have been seen a little later
    while domains != expected {
        let (more, now) = told_trust(&mut sidecar).await;
        bundles.extend(more);
        domains = now;
    }
    bundles.sort();
    bundles.dedup();
    assert_eq!(bundles, expected);
    // what goes is told in a few bytes
    gateway
        .hub
        .propose("test", causeway_catalog::RemoveLink { cluster: "c3".parse().unwrap() })
        .await
        .unwrap();
    expected.retain(|domain| domain != "c3.mesh");
    loop {
        let (bundles, domains) = told_trust(&mut sidecar).await;
        assert_eq!(bundles, [""; 0]);
        if domains == expected {
            break;
        }
    }
    // nor is what this cluster says of itself told again because a linked one says something else
    let catalog = gateway.hub.catalog();
    let link = catalog.link(&"c2".parse().unwrap()).unwrap();
    let update = causeway_catalog::UpdateLinkPeer {
        cluster: link.peer.name.clone(),
        gateways: link.gateways.values().cloned().collect(),
        roots: link.roots.clone(),
        peer_revision: causeway_model::Revision(2),
        revoked: Vec::new(),
        paused: false,
    };
    gateway.hub.propose("test", update).await.unwrap();
    assert_eq!(told_trust(&mut sidecar).await, (vec!["c2.mesh".to_owned()], expected));
    let revoke =
        causeway_catalog::Revoke { subjects: [RevokedSubject::Key([1; 32])].into(), ends_at: u64::MAX };
    gateway.hub.propose("test", revoke).await.unwrap();
    assert_eq!(told_trust(&mut sidecar).await.0, [own]);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_that_renewed_is_gone_at_once_when_it_is_revoked() {
    let gateway = Fixture::start().await;
    let workload = workload(&gateway);
    let mut sidecar = Sidecar::start(&gateway, Some(workload)).await;
    sidecar.say(register(1)).await;
    assert_eq!(sidecar.registered().await, 1);
    let keys = || gateway.hub.soft().presence.svid_keys(workload);
    let first = keys();
    assert_eq!(first.len(), 1);
    let new = KeyPair::generate().unwrap();
    sidecar.say(Renew { request: 2, csr: new.csr().unwrap() }).await;
    let issued = sidecar
        .hear(|message| match message {
            ToSidecar::Issued(issued) => Some(issued),
            _ => None,
        })
        .await;
    let svid = causeway_identity::Svid::new(issued.chain, new).unwrap();
    let renewed = keys();
    assert!(renewed.len() == 2 && renewed.is_superset(&first) && renewed.contains(svid.key_hash()));
    // what it registers anew over the same connection loses neither
    sidecar.say(register(3)).await;
    assert_eq!(sidecar.registered().await, 3);
    assert_eq!(keys(), renewed);
    assert_eq!(gateway.hub.soft().presence.get(workload).unwrap().row.svid_key, *svid.key_hash());

    let revoke = |keys: &[[u8; 32]]| causeway_catalog::Revoke {
        subjects: keys.iter().map(|key| RevokedSubject::Key(*key)).collect(),
        ends_at: u64::MAX,
    };
    // with the older one alone it comes back with the other: it is not gone
    gateway.hub.propose("test", revoke(&Vec::from_iter(first))).await.unwrap();
    let closed = timeout(SOON, sidecar.client.connection.closed()).await.unwrap();
    assert!(close_reason_text(&closed).contains("revoked"), "{closed}");
    assert!(gateway.hub.is_alive(workload));
    let source = causeway_identity::SvidSource::new(svid);
    let client = gateway.dial(alpn::CTL, Some(&source)).await;
    let (send, receive) = client.connection.open_bi().await.unwrap();
    let mut again = Sidecar { client, writer: FrameWriter::new(send), reader: FrameReader::new(receive) };
    again.say(Hello { version: VersionInfo::current(), workload: Some(workload) }).await;
    again.say(register(4)).await;
    assert_eq!(again.registered().await, 4);
    assert_eq!(keys(), renewed, "peers may still have connections of the older one");

    let mut changes = gateway.hub.changes();
    let expired = || gateway.hub.soft().presence.counters().expired_leases;
    let before = expired();
    gateway.hub.propose("test", revoke(&Vec::from_iter(renewed))).await.unwrap();
    let gone = async { while changes.recv().await.unwrap() != crate::hub::Change::Gone(workload) {} };
    timeout(SOON, gone).await.unwrap();
    assert_eq!(expired(), before, "it waited for its lease");
    assert!(
        !gateway.hub.is_alive(workload) && gateway.hub.soft().lost.recent(Instant::now()).next().is_none()
    );
    gateway.stop().await;
}
