//! Which endpoint connections go to: evenly, past what fails, and past a cluster that is silent.

use super::mesh::{Cluster, Forwarder, Node, SOON, Setup, WINDOW, ask, echo, until};
use crate::choose::Target;
use causeway_model::WorkloadId;
use causeway_wire::view::Offer;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const TAGS: [&[u8]; 4] = [b"0", b"1", b"2", b"3"];

/// A client, and servers with the instances 10, 11 and so on, each of which answers with its number.
struct Many {
    client: Node,
    servers: Vec<Node>,
    listen: SocketAddr,
    forwarder: Forwarder,
    clusters: Vec<Cluster>,
}

/// Servers in the clusters with the places that `places` says; cluster 0 is the client's, and cluster 1 in the same region.
async fn many(places: &[usize], upstreams: &[SocketAddr]) -> Many {
    let clusters: Vec<Cluster> =
        ["iad", "phx", "lhr"].into_iter().zip(1..).map(|(name, id)| Cluster::new(name, id)).collect();
    let all: Vec<&Cluster> = clusters.iter().collect();
    let forwarder = Forwarder::start(&all);
    let node = |cluster, instance, account, upstream| Setup {
        forwarder: &forwarder,
        cluster,
        instance,
        account,
        believes: &all,
        upstream,
        direct: false,
        window: WINDOW,
    };
    let client = node(&clusters[0], 1, "web", None).start().await;
    let mut servers = Vec::new();
    for ((place, upstream), instance) in places.iter().zip(upstreams).zip(10..) {
        let server = node(&clusters[*place], instance, "pay", Some(*upstream)).start().await;
        server.exports_to(&[&clusters[0]]);
        servers.push(server);
    }
    let offers = clusters.iter().enumerate().map(|(at, cluster)| {
        let here = places.iter().zip(10..).filter(|(place, _)| **place == at);
        let mut endpoints: Vec<_> = here.map(|(_, instance)| cluster.endpoint(instance)).collect();
        if at == 1 {
            endpoints.iter_mut().for_each(|endpoint| endpoint.locality.region = "iad".into());
            endpoints.iter_mut().for_each(|endpoint| endpoint.locality.zone = "2".into());
        }
        Offer { endpoints, ..cluster.offer("pay") }
    });
    client.learns(offers.filter(|offer| !offer.endpoints.is_empty()).collect());
    let listen = client.listen();
    Many { client, servers, listen, forwarder, clusters }
}

async fn echoes() -> [SocketAddr; 4] {
    [echo(TAGS[0]).await, echo(TAGS[1]).await, echo(TAGS[2]).await, echo(TAGS[3]).await]
}

/// Which server answers one connection.
async fn whose(listen: SocketAddr) -> Option<u8> {
    ask(listen, b"").await.ok()?.first().copied()
}

/// Waits until the client is connected to all endpoints of `place`.
async fn connected(many: &Many, place: usize, instances: std::ops::Range<u64>) {
    assert!(whose(many.listen).await.is_some());
    assert!(whose(many.listen).await.is_some());
    let cluster = many.clusters[place].facts.id;
    until("connections to all", || {
        let mut targets = instances.clone().map(|instance| Target::Endpoint(cluster, WorkloadId(instance)));
        targets.all(|target| many.client.pool.up(target).is_some())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_endpoints_get_equal_parts() {
    let many = many(&[1, 1, 1, 1], &echoes().await).await;
    connected(&many, 1, 10..14).await;
    let mut counts: BTreeMap<u8, u32> = BTreeMap::new();
    for _ in 0..400 {
        *counts.entry(whose(many.listen).await.unwrap()).or_default() += 1;
    }
    // how even it is in the long run the simulation shows; here other tests take the processor now and then
    let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
    assert!(counts.len() == 4 && *most <= least + least / 2, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_whose_application_refuses_is_left_alone_and_tried_again() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = gone.local_addr().unwrap();
    drop(gone);
    let [one, two, three, _] = echoes().await;
    let many = many(&[1, 1, 1, 1], &[one, two, three, addr]).await;
    connected(&many, 1, 10..14).await;
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < Duration::from_secs(2) {
        assert!(whose(many.listen).await.is_some_and(|tag| tag != b'3'));
        count += 1;
    }
    assert!(count > 20, "{count}");
    many.client.shows("causeway_sidecar_balance_ejected{service=\"pay.shop\",port=\"80\"} 1").await;
    // the first, and after half a second and one more second
    let ejections = many.client.value("causeway_sidecar_balance_ejections_total{reason=\"refused\"}");
    assert!((1..=4).contains(&ejections), "{ejections} ejections");
    let retries = many.client.value("causeway_sidecar_retries_total");
    assert!(retries <= ejections, "{retries} retries, {ejections} ejections");

    let listener = tokio::net::TcpListener::bind(addr).await.unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let _ = tcp.writable().await;
            let _ = tcp.try_write(TAGS[3]);
        }
    });
    let back = async { while whose(many.listen).await != Some(b'3') {} };
    timeout(SOON, back).await.unwrap();
    many.client.shows("causeway_sidecar_balance_ejected{service=\"pay.shop\",port=\"80\"} 0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_cut_off_is_left_for_another_and_ejects_nobody() {
    let many = many(&[1, 1, 2, 2], &echoes().await).await;
    connected(&many, 1, 10..12).await;
    many.forwarder.cut_off(Some(&many.clusters[1]));
    let cut = Instant::now();
    let mut asked = JoinSet::new();
    while cut.elapsed() < Duration::from_secs(4) {
        let (listen, at) = (many.listen, cut.elapsed());
        asked.spawn(async move { (at, whose(listen).await, cut.elapsed()) });
        sleep(Duration::from_millis(20)).await;
    }
    let answers = timeout(SOON, asked.join_all()).await.unwrap();
    for (began, tag, ended) in answers {
        assert!(matches!(tag, Some(b'2' | b'3')) || began < Duration::from_secs(1), "{began:?}: {tag:?}");
        assert!(tag.is_some(), "it said nothing, so another cluster was tried: {began:?} {ended:?}");
        let took = ended - began;
        assert!(took < Duration::from_millis(1500), "{began:?} took {took:?}");
        assert!(
            began < Duration::from_secs(1) || took < Duration::from_millis(600),
            "{began:?} took {took:?}"
        );
    }
    many.client.shows("causeway_sidecar_balance_suspected 1").await;
    many.forwarder.cut_off(None);
    let healed = Instant::now();
    let back = async { while !matches!(whose(many.listen).await, Some(b'0' | b'1')) {} };
    timeout(SOON, back).await.unwrap();
    assert!(healed.elapsed() < Duration::from_secs(10), "{:?}", healed.elapsed());
    many.client.shows("causeway_sidecar_balance_suspected 0").await;
    assert!(!many.client.text().contains("balance_ejections_total{"), "{}", many.client.text());
    drop(many.servers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_gets_a_connection_of_its_own_that_takes_no_ones_place() {
    let many = many(&[0], &[echo(b"").await]).await;
    let target = Target::Endpoint(many.clusters[0].facts.id, WorkloadId(10));
    assert_eq!(ask(many.listen, b"small").await.unwrap(), b"small");
    assert_eq!(many.client.endpoint.open_connections(), 1);
    let much = vec![7; 8 << 20];
    let split = async {
        while !many.client.pool.is_split(target) {
            assert_eq!(ask(many.listen, &much).await.unwrap().len(), much.len());
        }
    };
    timeout(SOON, split).await.unwrap();
    let small = many.client.pool.up(target).unwrap();
    assert_eq!(ask(many.listen, &much).await.unwrap().len(), much.len());
    assert_eq!(
        (many.client.endpoint.open_connections(), many.servers[0].endpoint.open_connections()),
        (2, 2)
    );
    assert!(small.is_usable(), "the other is no duplicate of it");
    // what is small again has the connection for that
    for _ in 0..40 {
        assert_eq!(ask(many.listen, b"small").await.unwrap(), b"small");
    }
    let before = small.received();
    assert_eq!(ask(many.listen, b"small").await.unwrap(), b"small");
    assert!(small.received() > before);
}
