use super::*;
use crate::hub::fixture::{Fixture, SOON};
use crate::links::introduction::tests::{facts as cluster, gateway};
use causeway_catalog::{EstablishLink, LinkKey, MergeRule};
use causeway_identity::ClusterCa;
use causeway_model::Epoch;
use causeway_transport::{FrameReader, FrameWriter};
use causeway_wire::alpn;
use causeway_wire::link::{LinkHello, PairEnd, PairReport, SendSnapshot};
use causeway_wire::view::{BundleView, VersionInfo};
use std::time::SystemTime;
use tokio::time::timeout;

/// The linked cluster, which says what it likes.
struct Phx {
    ca: ClusterCa,
    peer: PeerGateway,
}

impl Phx {
    /// Links the gateway's cluster with it.
    async fn link(iad: &Fixture) -> Self {
        let told = cluster("phx", 2);
        let ca = ClusterCa::create(&told.trust_domain, SystemTime::now()).unwrap();
        let command = EstablishLink {
            invite: None,
            peer: told.clone(),
            roots: vec![ca.root_der().to_vec()],
            gateways: vec![gateway(7)],
            key: LinkKey([3; 32]),
            merge_namespaces: MergeRule::All,
        };
        iad.hub.propose("test", command).await.unwrap();
        let deadline = tokio::time::Instant::now() + SOON;
        while iad.hub.with_peer(told.id, |_| ()).is_none() {
            assert!(tokio::time::Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let catalog = iad.hub.catalog();
        let peer = PeerGateway::of(catalog.link_by_id(told.id).unwrap(), NodeId(7), false);
        Self { ca, peer }
    }

    /// At `revision` it has gateways 7 and `other`.
    fn facts(&self, revision: u64, other: u64) -> Facts {
        let trust_domain = self.peer.cluster.trust_domain.clone();
        Facts {
            revision: Revision(revision),
            bundle: BundleView {
                trust_domain,
                roots: vec![self.ca.root_der().to_vec()],
                revoked: Vec::new(),
            },
            gateways: vec![gateway(7), gateway(other)],
            paused: false,
        }
    }

    fn ear<'h>(&'h self, iad: &'h Fixture) -> (Ear<'h>, Voice<'h>) {
        (Ear::new(&iad.hub, &self.peer, false, None), Voice::new(&iad.hub, &self.peer, None, Instant::now()))
    }

    fn writes(&self, iad: &Fixture) -> usize {
        iad.hub.catalog().audit().filter(|entry| entry.command == "update-link-peer").count()
    }

    /// What the registry has of it.
    fn known(&self, iad: &Fixture) -> (Revision, Vec<u64>) {
        let catalog = iad.hub.catalog();
        let link = catalog.link_by_id(self.peer.cluster.id).unwrap();
        (link.peer_revision, link.gateways.keys().map(|node| node.0).collect())
    }
}

async fn settle(ear: &mut Ear<'_>) {
    if let Some(update) = ear.update.take() {
        timeout(SOON, update).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_that_never_rest_are_written_seldom_and_the_latest_in_the_end() {
    let iad = Fixture::start().await;
    let phx = Phx::link(&iad).await;
    let start = Instant::now();
    // two connections of one link: what they may is shared
    let (mut first, mut voice) = phx.ear(&iad);
    let (mut second, _) = phx.ear(&iad);
    for round in 0..100 {
        let ear = if round % 2 == 0 { &mut first } else { &mut second };
        ear.hear(start, phx.facts(100 + round, 10 + round).into(), &mut voice).unwrap();
        ear.handle_timeout(start + 3 * FACTS_PATIENCE, &mut voice);
        settle(ear).await;
    }
    assert_eq!(phx.writes(&iad), 8, "the burst");
    assert_eq!(phx.known(&iad), (Revision(107), vec![7, 17]));
    // time goes by: the older of the two that wait is no news once the newer one is written
    let mut now = start;
    for _ in 0..20 {
        now = [first.facts_due, second.facts_due].into_iter().flatten().max().unwrap_or(now);
        for ear in [&mut second, &mut first] {
            ear.handle_timeout(now, &mut voice);
            settle(ear).await;
        }
    }
    assert_eq!(phx.known(&iad), (Revision(199), vec![7, 109]));
    assert_eq!(phx.writes(&iad), 9);
    assert_eq!((first.facts_due, second.facts_due), (None, None));
    iad.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_that_say_nothing_new_are_not_written_nor_what_they_replace() {
    let iad = Fixture::start().await;
    let phx = Phx::link(&iad).await;
    let start = Instant::now();
    let (mut ear, mut voice) = phx.ear(&iad);
    let mut same = phx.facts(100, 8);
    same.gateways.truncate(1);
    for revision in 100..200 {
        let facts = Facts { revision: Revision(revision), ..same.clone() };
        ear.hear(start, facts.into(), &mut voice).unwrap();
        assert_eq!(ear.facts_due, None);
    }
    // a change that is taken back before it is written
    ear.hear(start, phx.facts(200, 8).into(), &mut voice).unwrap();
    assert!(ear.facts_due.is_some());
    let back = Facts { revision: Revision(201), ..same };
    ear.hear(start, back.into(), &mut voice).unwrap();
    // facts that are late
    ear.hear(start, phx.facts(99, 8).into(), &mut voice).unwrap();
    ear.handle_timeout(start + FACTS_AGAIN, &mut voice);
    assert_eq!(ear.facts_due, None);
    settle(&mut ear).await;
    assert_eq!((phx.writes(&iad), phx.known(&iad)), (0, (Revision(0), vec![7])));
    iad.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_slowed_down_and_frames_of_later_releases_are_counted() {
    let iad = Fixture::start().await;
    let phx = Phx::link(&iad).await;
    let id = causeway_model::SpiffeId::gateway(&phx.peer.cluster.trust_domain, phx.peer.node);
    let client = iad.connect(alpn::LINK, &phx.ca, &id).await;
    let (send, receive) = client.connection.open_bi().await.unwrap();
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive));
    let hello = LinkHello {
        version: VersionInfo::current(),
        cluster: phx.peer.cluster.clone(),
        node: phx.peer.node,
        unix_time: causeway_runtime::clock::unix_now(),
        have: None::<(Epoch, Revision)>,
    };
    writer.send::<LinkMessage>(&hello.into()).await.unwrap();
    let heard = timeout(SOON, reader.next::<LinkMessage>()).await.unwrap().unwrap();
    assert!(matches!(heard, Some(LinkMessage::Hello(_))), "{heard:?}");
    let reading = tokio::spawn(async move { while let Ok(Some(_)) = reader.next::<LinkMessage>().await {} });
    let frame = [&4_u32.to_be_bytes()[..], &900_u16.to_be_bytes(), &1_u16.to_be_bytes()].concat();
    writer.get_mut().write_all(&frame).await.unwrap();
    let began = Instant::now();
    for _ in 0..1_300 {
        writer.send::<LinkMessage>(&SendSnapshot {}.into()).await.unwrap();
    }
    writer.get_mut().write_all(&frame).await.unwrap();
    writer.send::<LinkMessage>(&SendSnapshot {}.into()).await.unwrap();
    iad.shows("causeway_frames_skipped_total{protocol=\"link\"} 2").await;
    assert!(began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
    let text = iad.metrics();
    assert!(!text.contains("causeway_messages_delayed_total{protocol=\"link\"} 0\n"), "{text}");
    assert!(client.connection.close_reason().is_none(), "a slow answer is all that comes of it");
    reading.abort();
    iad.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_says_what_it_has_causes_no_look_at_all_exports() {
    let iad = Fixture::start().await;
    let phx = Phx::link(&iad).await;
    let (mut ear, mut voice) = phx.ear(&iad);
    let now = Instant::now();
    while voice.next(now).is_some() {}
    assert_eq!(voice.exports_due(), None);
    for revision in 0..100 {
        let have = causeway_wire::link::HaveExports { epoch: Epoch(9), revision: Revision(revision) };
        ear.hear(now, have.into(), &mut voice).unwrap();
        assert_eq!(voice.exports_due(), None);
    }
    iad.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_has_a_heartbeat_and_takes_one() {
    let iad = Fixture::start().await;
    crate::links::health::start(&iad.hub);
    let phx = Phx::link(&iad).await;
    let id = causeway_model::SpiffeId::gateway(&phx.peer.cluster.trust_domain, phx.peer.node);
    let client = iad.connect(alpn::LINK, &phx.ca, &id).await;
    let (send, receive) = client.connection.open_bi().await.unwrap();
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive));
    let hello = LinkHello {
        version: VersionInfo::current(),
        cluster: phx.peer.cluster.clone(),
        node: phx.peer.node,
        unix_time: causeway_runtime::clock::unix_now(),
        have: None::<(Epoch, Revision)>,
    };
    writer.send::<LinkMessage>(&hello.into()).await.unwrap();
    let mut heard = 0;
    while heard < 4 {
        let message = timeout(SOON, reader.next::<LinkMessage>()).await.unwrap().unwrap().unwrap();
        let LinkMessage::Heartbeat(heartbeat) = message else { continue };
        assert_eq!((heartbeat.seq, heartbeat.received), (heard + 1, heard));
        heard = heartbeat.seq;
        let (seq, received) = (heartbeat.seq, heartbeat.seq);
        let echo = Heartbeat { seq, unix_ms: 1, heard, received, heard_ago_ms: 0, hearing: 0 };
        writer.send::<LinkMessage>(&echo.into()).await.unwrap();
    }
    let known =
        || iad.hub.with_peer(phx.peer.cluster.id, |peer| peer.health.pair(Instant::now(), phx.peer.node));
    let pair = known().unwrap().unwrap();
    assert!(pair.rtt.is_some_and(|rtt| rtt < Duration::from_millis(500)), "{pair:?}");
    assert_eq!((pair.loss_in, pair.loss_out), (Some(0), Some(0)));
    let end = |id: u32| PairEnd { cluster: id.try_into().unwrap(), node: NodeId(1) };
    let report =
        PairReport { from: end(1), to: end(2), unix_ms: 1, heard_ago_ms: 0, said_ago_ms: 0, hearing: 0 };
    let many = PairReports { reports: vec![report; MAX_PAIR_REPORTS + 1] };
    writer.send::<LinkMessage>(&many.into()).await.unwrap();
    let closed = timeout(SOON, client.connection.closed()).await.unwrap();
    let why = causeway_transport::close_reason_text(&closed);
    assert!(why.contains("257 reports on pairs"), "{why}");
    iad.stop().await;
}
