//! Two clusters without a network between them, and a third one that both reach.

use causeway_test_mesh::{Cluster, Hosts, Mesh, SOON, Scrape, Service, get, skip, wait_until};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const IAD: Ipv4Addr = Ipv4Addr::new(10, 231, 1, 1);
const PHX: Ipv4Addr = Ipv4Addr::new(10, 231, 0, 2);
const FRA: Ipv4Addr = Ipv4Addr::new(10, 231, 2, 2);
/// Of fra's second gateway.
const FRA_2: Ipv4Addr = Ipv4Addr::new(10, 231, 2, 6);
/// How long a path that is gone may still be taken for one.
const WITHDRAWN: Duration = Duration::from_secs(5);
/// How long a request over a path that is gone may take to fail.
const FAILED: Duration = Duration::from_secs(20);

/// `iad` and `fra` each have a cable to `phx`, which forwards no IP packets.
fn cables() -> Result<Hosts, String> {
    let hosts = Hosts::new(&["iad", "phx", "fra"])?;
    for (end, cable, [near, far]) in [
        ("iad", "cable0", [IAD, Ipv4Addr::new(10, 231, 1, 2)]),
        ("fra", "cable1", [FRA, Ipv4Addr::new(10, 231, 2, 1)]),
    ] {
        hosts.ip("phx", &format!("link add {cable} type veth peer name cable netns @{end}"))?;
        hosts.ip("phx", &format!("addr add {far}/30 dev {cable}"))?;
        hosts.ip("phx", &format!("link set {cable} up"))?;
        hosts.ip(end, &format!("addr add {near}/30 dev cable"))?;
        hosts.ip(end, "link set cable up")?;
        hosts.ip(end, &format!("route add {PHX}/32 via {far}"))?;
    }
    hosts.ip("phx", &format!("addr add {PHX}/32 dev lo"))?;
    hosts.ip("fra", &format!("addr add {FRA_2}/32 dev cable"))?;
    hosts.ip("phx", &format!("route add {FRA_2}/32 via {FRA}"))?;
    Ok(hosts)
}

/// A cable between `iad` and `fra` itself.
fn direct_cable(hosts: &Hosts) -> Result<(), String> {
    hosts.ip("iad", "link add direct type veth peer name direct netns @fra")?;
    hosts.ip("iad", "link set direct up")?;
    hosts.ip("fra", "link set direct up")?;
    hosts.ip("fra", &format!("route add {IAD}/32 dev direct src {FRA}"))?;
    for gateway in [FRA, FRA_2] {
        hosts.ip("iad", &format!("route add {gateway}/32 dev direct src {IAD}"))?;
    }
    Ok(())
}

/// An operator who sits at one cluster after the other.
struct Operator {
    hosts: Hosts,
    mesh: Mesh,
}

impl Operator {
    #[track_caller]
    fn at(&self, cluster: &str, args: &[&str]) -> String {
        self.hosts.enter(cluster);
        self.mesh.ok(&[args, &["--context", cluster]].concat())
    }

    #[track_caller]
    fn link(&self, a: &str, b: &str) {
        let token = self.at(a, &["link", "invite", "--for", b]);
        println!("{}", self.at(b, &["link", "accept", &token]));
        for (at, to) in [(a, b), (b, a)] {
            self.hosts.enter(at);
            wait_until(SOON, &format!("the link of {at} to {to} is up"), || {
                self.mesh.json(&["link", "show", to, "--context", at])["state"] == "up"
            });
        }
    }

    #[track_caller]
    fn transit(&self, at: &str, to: &str, switch: &str) {
        self.at(at, &["link", "set", to, "--transit", switch]);
    }

    #[track_caller]
    fn scrape(&self, cluster: &Cluster) -> Scrape {
        self.hosts.enter(cluster.name());
        cluster.gateways[0].scrape()
    }

    /// Waits until iad has control connections with both gateways of fra, through phx.
    #[track_caller]
    fn wait_both(&self) {
        self.hosts.enter("iad");
        wait_until(SOON, "iad speaks with both gateways of fra through phx", || {
            let link = self.mesh.json(&["link", "show", "fra", "--context", "iad"]);
            let gateways = link["gateways"].as_array().unwrap();
            let through = |gateway: &Value| gateway["control"] == true && gateway["ports"][0] == 0;
            gateways.len() == 2 && gateways.iter().all(through)
        });
    }

    /// Waits until `cluster` reaches `count` clusters through others.
    #[track_caller]
    fn wait_reached(&self, limit: Duration, cluster: &Cluster, count: f64) -> Duration {
        let what = format!("{} reaches {count} clusters through others", cluster.name());
        wait_until(limit, &what, || self.scrape(cluster).sum("causeway_transit_clusters", "").eq(&count))
    }
}

#[test]
fn two_clusters_without_a_network_between_them_meet_through_a_third() {
    let hosts = match cables() {
        Ok(hosts) => hosts,
        Err(why) => {
            return skip("transit::two_clusters_without_a_network_between_them_meet_through_a_third", &why);
        }
    };
    let mesh = Mesh::new("transit");
    let start = |name: &str, addresses: &[Ipv4Addr]| {
        hosts.enter(name);
        mesh.cluster(name).gateways(addresses.len()).at(addresses).start()
    };
    let (phx, iad, fra) = (start("phx", &[PHX]), start("iad", &[IAD]), start("fra", &[FRA, FRA_2]));
    hosts.enter("iad");
    let far = UdpSocket::bind((IAD, 0)).unwrap().connect((FRA, 7443));
    assert!(far.is_err(), "iad and fra have a network between them");
    let operator = Operator { hosts, mesh };
    operator.link("phx", "iad");
    operator.link("phx", "fra");

    // off by default: there is no way, and the error says so
    operator.hosts.enter("fra");
    let token = operator.at("fra", &["link", "invite", "--for", "iad"]);
    operator.hosts.enter("iad");
    operator.mesh.run(&["link", "accept", &token, "--context", "iad"]).refused(&["link-unreachable", "fra"]);
    for (at, to) in [("iad", "phx"), ("fra", "phx"), ("phx", "iad"), ("phx", "fra")] {
        assert_eq!(
            operator.scrape(&iad).sum("causeway_transit_clusters", ""),
            0.0,
            "{at} has not agreed yet"
        );
        operator.transit(at, to, "on");
    }
    let took = [&iad, &fra].map(|cluster| operator.wait_reached(SOON, cluster, 1.0));
    println!("the way is known after {took:?} (iad, fra)");
    operator.link("fra", "iad");
    for (at, to) in [("iad", "fra"), ("fra", "iad")] {
        operator.hosts.enter(at);
        let link = operator.mesh.json(&["link", "show", to, "--context", at]);
        assert_eq!(link["via"], json!(["phx"]), "{link}");
        println!("{}", operator.at(at, &["link", "show", to]));
    }
    operator.wait_both();
    println!("{}", operator.at("iad", &["link", "list"]));

    operator.hosts.enter("fra");
    let service = Service::http("payments");
    let _pay = operator.mesh.sidecar(&fra, "pay").serve("payments.shop:80", service.addr()).start();
    operator.at("fra", &["export", "payments.shop", "--to", "iad"]);
    operator.hosts.enter("iad");
    let web = operator.mesh.sidecar(&iad, "web").listen("payments.shop:80").start();
    operator.mesh.wait_offer("iad", "payments.shop", "fra", 1);
    let addr = web.addr("payments.shop:80");
    let began = Instant::now();
    assert_eq!(get(addr, "/").unwrap().text(), "payments");
    println!("the first request through phx took {:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(get(addr, "/bytes/20000000").unwrap().body.len(), 20_000_000);
    println!("20 MB through phx took {:?}", began.elapsed());
    let relayed = operator.scrape(&phx);
    let count = relayed.sum("causeway_forwarder_transit_relayed_total", "");
    assert!(count > 10_000.0, "phx relayed {count} packets");
    for reason in ["foreign-origin", "no-transit", "loop", "malformed"] {
        println!("phx dropped {} packets: {reason}", relayed.dropped(reason));
    }
    let services = operator.at("phx", &["services"]);
    assert!(!services.contains("payments"), "phx offers what passes through it: {services}");

    // phx takes back its word
    operator.transit("phx", "fra", "off");
    let off = Instant::now();
    operator.wait_reached(WITHDRAWN, &iad, 0.0);
    println!("iad knows of no way after {:?}", off.elapsed());
    let began = Instant::now();
    let said = fails(addr);
    println!("a request fails after {:?}: {said}", began.elapsed());
    assert!(began.elapsed() < FAILED, "{:?}", began.elapsed());
    let record = web.process.access().pop().expect("a record of the request that failed");
    println!("the sidecar says: {record}");
    assert!(record["reason"].as_str().is_some_and(|reason| reason != "ok"), "{record}");
    println!("{}", operator.at("iad", &["link", "list"]));

    operator.transit("phx", "fra", "on");
    let on = Instant::now();
    operator.hosts.enter("iad");
    wait_until(SOON, "requests pass again", || {
        get(addr, "/").is_ok_and(|answer| answer.text() == "payments")
    });
    println!("requests pass again after {:?}", on.elapsed());

    // with a cable of their own they need phx no more
    operator.wait_both();
    let mut open = TcpStream::connect(addr).unwrap();
    open.write_all(b"GET /bytes/1000 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    open.read_exact(&mut [0; 500]).unwrap();
    direct_cable(&operator.hosts).unwrap();
    wait_until(SOON, "iad reaches fra directly", || {
        let link = operator.mesh.json(&["link", "show", "fra", "--context", "iad"]);
        link["via"] == json!([]) && link["state"] == "up"
    });
    let before = operator.scrape(&iad).sum("causeway_forwarder_transit_sent_total", "");
    operator.hosts.enter("iad");
    assert_eq!(get(addr, "/bytes/1000000").unwrap().body.len(), 1_000_000);
    open.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut rest = String::new();
    open.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("payments"), "a stream from before does not go on: {rest}");
    let after = operator.scrape(&iad).sum("causeway_forwarder_transit_sent_total", "");
    println!("iad sent {} packets through phx meanwhile", after - before);
    assert!(after - before < 100.0, "only control connections may: {before} {after}");
    let ended = "it passes through other clusters, and a direct one stands";
    wait_until(SOON, "a control connection through phx is replaced", || {
        [&iad, &fra].iter().any(|cluster| cluster.gateways[0].process.log().contains(ended))
    });
    operator.hosts.enter("iad");
    wait_until(SOON, "control connections are direct", || {
        let link = operator.mesh.json(&["link", "show", "fra", "--context", "iad"]);
        link["gateways"].as_array().unwrap().iter().all(|gateway| gateway["control"] == true)
    });
}

/// The error of a request; those that were on their way may still be answered.
fn fails(addr: SocketAddr) -> String {
    let mut failed = None;
    wait_until(SOON, "a request fails", || {
        failed = get(addr, "/").err();
        failed.is_some()
    });
    failed.unwrap().to_string()
}
