//! A region that is cut off, and healed: where new connections go. It needs root and network namespaces.

use crate::arrivals::{Arrivals, Call, between, counts, failures};
use causeway_test_mesh::{Cluster, Endpoint, Hosts, Mesh, SOON, Sidecar, skip, wait_until};
use causeway_wan::{Impairment, Relay};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const IAD: Ipv4Addr = Ipv4Addr::new(10, 233, 0, 1);
const PHX: Ipv4Addr = Ipv4Addr::new(10, 233, 1, 2);
const FRA: Ipv4Addr = Ipv4Addr::new(10, 233, 2, 2);
/// What others send to `fra` goes there, and is late.
const FRA_FAR: Ipv4Addr = Ipv4Addr::new(10, 233, 2, 6);
/// How late, each way: `phx` is nearer.
const FAR: Duration = Duration::from_millis(15);

const SERVICE: &str = "pool.test";
const PORT: &str = "pool.test:80";
const ENDPOINTS: usize = 3;
const CLIENTS: usize = 4;
/// Time from one connection of a client to its next.
const EVERY: Duration = Duration::from_millis(25);
/// In which time new connections go to the next region.
const AWAY: Duration = Duration::from_secs(1);
/// In which time they are back once it is healed.
const BACK: Duration = Duration::from_secs(10);
/// How long what was on its way when it was cut off may wait: the limit of an attempt is five seconds.
const PATIENCE: Duration = Duration::from_secs(7);
/// How long the region is cut off.
const CUT: Duration = Duration::from_secs(8);
/// QUIC connections that a client has with an endpoint at most: for little data, and for much.
const CONNECTIONS: usize = 2;
/// In which parts of time the shares of the regions are looked at.
const PART: Duration = Duration::from_millis(500);
/// What the healed region gets at most of the first part in which it gets anything.
const FIRST_SHARE: f64 = 0.5;

/// `phx` and `fra` each have a cable to `iad`, and none to each other.
fn cables() -> Result<Hosts, String> {
    let hosts = Hosts::new(&["iad", "phx", "fra"])?;
    for (end, near, far) in [("phx", "10.233.1.1", PHX), ("fra", "10.233.2.1", FRA)] {
        hosts.ip("iad", &format!("link add {end} type veth peer name iad netns @{end}"))?;
        hosts.ip("iad", &format!("addr add {near}/29 dev {end}"))?;
        hosts.ip("iad", &format!("link set {end} up"))?;
        hosts.ip(end, &format!("addr add {far}/29 dev iad"))?;
        hosts.ip(end, "link set iad up")?;
        hosts.ip(end, &format!("route add {IAD}/32 via {near}"))?;
    }
    hosts.ip("iad", &format!("addr add {IAD}/32 dev lo"))?;
    hosts.ip("fra", &format!("addr add {FRA_FAR}/29 dev iad"))?;
    Ok(hosts)
}

/// The service in two regions, and its clients in a third one.
struct Regions {
    phx: Vec<Endpoint>,
    clients: Vec<Sidecar>,
    _fra: Vec<Endpoint>,
    _clusters: [Cluster; 3],
    _late: Relay,
    _mesh: Mesh,
    // goes last: what runs in it is killed before
    hosts: Hosts,
}

impl Regions {
    #[track_caller]
    fn start(hosts: Hosts) -> Self {
        let mesh = Mesh::new("regions");
        hosts.enter("fra");
        let (listen, late) = ((FRA_FAR, 7443).into(), Impairment::CLEAR.with_delay(FAR));
        let relay = Relay::start(listen, (FRA, 7443).into(), late, late, 1).unwrap();
        let start = |name, ip: Ipv4Addr, link: Ipv4Addr| {
            hosts.enter(name);
            let [far, near] = [format!("link={link}:7443"), format!("cluster={ip}:7443")];
            mesh.cluster(name).at(&[ip]).flag("--advertise", &far).flag("--advertise", &near).start()
        };
        let clusters = [start("phx", PHX, PHX), start("fra", FRA, FRA_FAR), start("iad", IAD, IAD)];
        let [phx, fra, iad] = &clusters;
        mesh.link(iad, phx);
        mesh.link(iad, fra);
        let endpoints = [phx, fra].map(|cluster| {
            hosts.enter(cluster.name());
            Endpoint::start(&mesh, cluster, PORT, ENDPOINTS, |builder| builder)
        });
        hosts.enter("iad");
        for cluster in [phx, fra] {
            mesh.ok(&["export", SERVICE, "--context", cluster.name()]);
            mesh.wait_offer("iad", SERVICE, cluster.name(), ENDPOINTS as u64);
        }
        let clients =
            (0..CLIENTS).map(|number| mesh.sidecar(iad, &format!("client-{number}")).listen(PORT).start());
        let clients = clients.collect();
        let [phx, fra] = endpoints;
        Self { phx, clients, _fra: fra, _clusters: clusters, _late: relay, _mesh: mesh, hosts }
    }

    /// What `iad` and `phx` send each other arrives nowhere, and nobody is told so.
    #[track_caller]
    fn cut(&self) {
        for (host, to, cable) in [("iad", PHX.to_string(), "phx"), ("phx", "10.233.1.1".to_owned(), "iad")] {
            let nobody = format!("neigh replace {to} lladdr 02:00:00:00:00:99 dev {cable} nud permanent");
            self.hosts.ip(host, &nobody).unwrap();
        }
    }

    #[track_caller]
    fn heal(&self) {
        for (host, to, cable) in [("iad", PHX.to_string(), "phx"), ("phx", "10.233.1.1".to_owned(), "iad")] {
            self.hosts.ip(host, &format!("neigh del {to} dev {cable}")).unwrap();
        }
    }

    /// How many QUIC connections the clients have made so far, each for itself.
    #[track_caller]
    fn connections(&self) -> Vec<usize> {
        let made = |client: &Sidecar| client.scrape().sum("causeway_sidecar_connect_seconds_count", "");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        self.clients.iter().map(|client| made(client) as usize).collect()
    }
}

/// Which region answered, for each of `calls` that was answered.
fn shares(calls: &[&Call]) -> (usize, usize) {
    let at = |region: &str| {
        let all = counts(calls.iter().copied());
        all.iter().filter(|(name, _)| name.starts_with(region)).map(|(_, count)| count).sum()
    };
    (at("phx"), at("fra"))
}

/// Whether the last calls were all answered by `region`, and began after `from`.
fn all_at(calls: &[Call], region: &str, from: Instant) -> bool {
    let last = &calls[calls.len().saturating_sub(100)..];
    let there = |call: &Call| call.answer.as_ref().is_ok_and(|name| name.starts_with(region));
    last.len() == 100 && last.iter().all(|call| call.began > from && there(call))
}

/// Prints the shares in parts of time, and returns what `phx` got of each.
fn parts(calls: &[Call], from: Instant, what: &str) -> Vec<f64> {
    let mut all = Vec::new();
    for part in 0..40 {
        let began = from + PART * part;
        let these = between(calls, began, began + PART);
        if these.is_empty() {
            break;
        }
        let (phx, fra) = shares(&these);
        let slowest = these.iter().map(|call| call.took).max().unwrap();
        println!(
            "{:?} after {what}: phx {phx}, fra {fra} of {}; the slowest took {slowest:?}",
            PART * part,
            these.len()
        );
        all.push(phx as f64 / these.len() as f64);
    }
    all
}

#[test]
fn a_region_that_is_cut_off_is_left_within_a_second_and_gets_its_load_back_bit_by_bit() {
    let name = "regions::a_region_that_is_cut_off_is_left_within_a_second_and_gets_its_load_back_bit_by_bit";
    let hosts = match cables() {
        Ok(hosts) => hosts,
        Err(why) => return skip(name, &why),
    };
    let regions = Regions::start(hosts);
    let addrs: Vec<_> = regions.clients.iter().map(|client| client.addr(PORT)).collect();
    let arrivals = Arrivals::start(&addrs, EVERY);
    let began = Instant::now();
    wait_until(SOON, "all goes to the nearest region", || all_at(&arrivals.so_far(), "phx", began));

    regions.cut();
    let cut = Instant::now();
    std::thread::sleep(CUT);
    let before = regions.connections();
    let taken: u64 = regions.phx.iter().map(|endpoint| endpoint.application.taken()).sum();
    let healed = Instant::now();
    regions.heal();
    let took = wait_until(SOON, "all goes to the nearest region again", || {
        all_at(&arrivals.so_far(), "phx", healed)
    });
    let after = regions.connections();
    let calls = arrivals.end();
    println!("{taken} connections at phx until it was healed; all of its load was back after {took:?}");

    parts(&calls, cut, "the cut");
    let while_cut = between(&calls, cut + AWAY, healed);
    assert_eq!(failures(while_cut.iter().copied(), cut), Vec::<String>::new());
    let (phx, fra) = shares(&while_cut);
    assert!(phx == 0 && fra > 100, "{phx} at phx, {fra} at fra, from {AWAY:?} after the cut on");
    let slowest = while_cut.iter().map(|call| call.took).max().unwrap();
    assert!(slowest < AWAY, "a connection took {slowest:?} when the cut was known");
    let first = between(&calls, cut, cut + AWAY);
    // what was sent to a peer that is silent is not sent to another one: it waits, and then says so
    let failed = failures(first.iter().copied(), cut);
    println!("of {} in the first second {} failed, the last {:?}", first.len(), failed.len(), failed.last());
    let slowest = first.iter().map(|call| call.took).max().unwrap();
    assert!(slowest < PATIENCE, "a connection of the first second took {slowest:?}");

    let back = parts(&calls, healed, "it was healed");
    assert_eq!(failures(between(&calls, healed, Instant::now()), healed), Vec::<String>::new());
    assert!(took < BACK, "it took {took:?}");
    let ramp: Vec<f64> = back.iter().copied().skip_while(|share| *share == 0.0).collect();
    assert!(ramp[0] <= FIRST_SHARE, "all at once: {ramp:?}");
    let made: Vec<usize> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    println!("the clients made {made:?} connections to {ENDPOINTS} endpoints");
    assert!(before.iter().all(|made| *made >= 2 * ENDPOINTS), "none is counted: {before:?}");
    assert!(made.iter().all(|made| *made <= ENDPOINTS * CONNECTIONS), "a herd: {made:?}");
}
