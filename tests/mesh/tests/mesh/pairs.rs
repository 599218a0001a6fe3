//! Which gateways of two linked clusters hear each other, and what both sides say of it when a direction is lost.

use causeway_test_mesh::{Cluster, Mesh, SOON, loopback, wait_for, wait_until};
use causeway_wan::{Direction, Impairment, Relay};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long both sides may take to name the same verdict: 3 s, and a second for the commands that ask.
const NAMED: Duration = Duration::from_secs(4);
/// The longest datagram.
const DATAGRAM: usize = 65_536;

/// The address at which a gateway is reached by its peers: what comes from `through.0` goes to `through.1`, and everything else to
/// `target`. Its threads last as long as the test's process.
fn fork(target: SocketAddr, through: (Ipv4Addr, SocketAddr)) -> SocketAddr {
    let listen = Arc::new(UdpSocket::bind((loopback(), 7443)).unwrap());
    let addr = listen.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut upstream: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
        let mut datagram = vec![0; DATAGRAM];
        while let Ok((len, from)) = listen.recv_from(&mut datagram) {
            let socket = upstream.entry(from).or_insert_with(|| {
                let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
                socket.connect(if from.ip() == IpAddr::V4(through.0) { through.1 } else { target }).unwrap();
                let (listen, back) = (listen.clone(), socket.clone());
                std::thread::spawn(move || {
                    let mut datagram = vec![0; DATAGRAM];
                    loop {
                        // a refused port is no end
                        if let Ok(len) = back.recv(&mut datagram) {
                            let _ = listen.send_to(&datagram[..len], from);
                        }
                    }
                });
                socket
            });
            let _ = socket.send(&datagram[..len]);
        }
    });
    addr
}

/// What gateway `at` of a cluster says of the linked cluster's gateway `of`.
fn pair(mesh: &Mesh, context: &str, peer: &str, of: &str) -> Value {
    let link = mesh.json(&["link", "show", peer, "--context", context]);
    let gateways = link["gateways"].as_array().unwrap();
    gateways.iter().find(|gateway| gateway["node"] == *of).cloned().unwrap_or(Value::Null)
}

/// Two clusters of two gateways each. What the first gateways send each other passes relays, one for each address that is called.
struct Forked {
    mesh: Mesh,
    iad: Cluster,
    phx: Cluster,
    /// To phx's first gateway, and to iad's.
    relays: [Relay; 2],
    nodes: [String; 2],
}

impl Forked {
    fn start(name: &str) -> Self {
        let mesh = Mesh::new(name);
        let firsts = [loopback(), loopback()];
        let relay = |ip: Ipv4Addr| {
            let (listen, clear) =
                ((loopback(), 7443).into(), Impairment::CLEAR.with_delay(Duration::from_millis(5)));
            Relay::start(listen, (ip, 7443).into(), clear, clear, 1).unwrap()
        };
        let relays = [relay(firsts[1]), relay(firsts[0])];
        let cluster = |name: &str, own: usize, to_own: &Relay| {
            let ip = firsts[own];
            let far = fork((ip, 7443).into(), (firsts[1 - own], to_own.local_addr()));
            let mut cluster = mesh.cluster(name).gateways(0).start();
            let [far, near] = [format!("link={far}"), format!("cluster={ip}:7443")];
            cluster.add_at(ip, &["--advertise", &far, "--advertise", &near]);
            cluster.add_at(loopback(), &[]);
            cluster
        };
        let (iad, phx) = (cluster("iad", 0, &relays[1]), cluster("phx", 1, &relays[0]));
        mesh.link(&iad, &phx);
        let nodes = [&iad, &phx].map(|cluster| cluster.gateways[0].node());
        let forked = Self { mesh, iad, phx, relays, nodes };
        wait_until(SOON, "all four pairs are up at both ends", || {
            [(&forked.iad, "phx"), (&forked.phx, "iad")].into_iter().all(|(cluster, peer)| {
                cluster.gateways.iter().all(|gateway| {
                    let link = forked.mesh.json(&["link", "show", peer, "--context", &gateway.context]);
                    let gateways = link["gateways"].as_array().unwrap();
                    gateways.len() == 2
                        && gateways.iter().all(|g| g["verdict"] == "up" && !g["rtt_control_us"].is_null())
                })
            })
        });
        forked
    }

    /// What the two first gateways say of each other.
    fn pairs(&self) -> [Value; 2] {
        [pair(&self.mesh, "iad", "phx", &self.nodes[1]), pair(&self.mesh, "phx", "iad", &self.nodes[0])]
    }

    /// What iad's first gateway sends phx's is lost with `impairment`.
    fn impair(&self, impairment: Impairment) {
        self.relays[0].set(Direction::Forward, impairment);
        self.relays[1].set(Direction::Back, impairment);
    }
}

#[test]
fn both_sides_name_the_direction_that_is_lost() {
    let forked = Forked::start("one-way");
    let [here, there] = &forked.nodes;
    let lost = format!("one-way: iad/{here} -> phx/{there} is lost");
    forked.impair(Impairment::CUT);
    let cut = Instant::now();
    let mut named = [None; 2];
    let mut dead = [None; 2];
    wait_until(SOON, "both sides name what is lost, and use it no more", || {
        for (place, pair) in forked.pairs().iter().enumerate() {
            if pair["verdict"] == *lost {
                named[place].get_or_insert(cut.elapsed());
            }
            if pair["ports"][0] == 0 {
                dead[place].get_or_insert(cut.elapsed());
            }
        }
        named.iter().chain(&dead).all(Option::is_some)
    });
    let [named, dead] = [named, dead].map(|times| times.map(Option::unwrap));
    println!("{lost}: named after {named:?} (iad, phx); no packet takes the pair after {dead:?}");
    assert!(named.iter().all(|took| *took < NAMED), "{named:?}");
    for (at, to) in [("iad", "phx"), ("phx", "iad")] {
        let link = forked.mesh.json(&["link", "show", to, "--context", at]);
        assert_eq!(link["state"], "up", "three pairs are: {link}");
        let ups =
            link["gateways"].as_array().unwrap().iter().filter(|gateway| gateway["verdict"] == "up").count();
        assert_eq!(ups, 1, "{link}");
    }
    println!("{}", forked.mesh.ok(&["link", "show", "phx", "--context", "iad"]));
    let up = format!("causeway_link_pair_up{{cluster=\"phx\",gateway=\"{there}\"}} 0");
    let scrape = forked.iad.gateways[0].scrape();
    assert!(scrape.text().lines().any(|line| line == up), "{}", scrape.text());

    // its connections are given up, and the verdict stays
    wait_until(SOON, "the control connection is given up", || {
        forked.pairs().iter().all(|pair| pair["control"] == false)
    });
    let held = Instant::now();
    while held.elapsed() < Duration::from_secs(3) {
        forked.pairs().iter().for_each(|pair| assert_eq!(pair["verdict"], *lost));
    }

    forked.impair(Impairment::CLEAR);
    let healed = Instant::now();
    wait_until(SOON, "the pair is up again", || {
        forked
            .pairs()
            .iter()
            .all(|pair| pair["verdict"] == "up" && pair["control"] == true && pair["ports"][0] != 0)
    });
    println!("up again after {:?}", healed.elapsed());
}

#[test]
fn no_packet_takes_a_link_of_which_all_pairs_lose_one_direction() {
    let mesh = Mesh::new("one-way-all");
    let mut relays = Vec::new();
    let [iad, phx] = ["iad", "phx"].map(|name| {
        let ip = loopback();
        let relay = Relay::start(
            (loopback(), 7443).into(),
            (ip, 7443).into(),
            Impairment::CLEAR,
            Impairment::CLEAR,
            1,
        )
        .unwrap();
        let [far, near] = [format!("link={}", relay.local_addr()), format!("cluster={ip}:7443")];
        relays.push(relay);
        mesh.cluster(name).at(&[ip]).flag("--advertise", &far).flag("--advertise", &near).start()
    });
    mesh.link(&iad, &phx);
    let sides = [("iad", "phx", phx.gateways[0].node()), ("phx", "iad", iad.gateways[0].node())];
    let look = || sides.each_ref().map(|(at, to, of)| pair(&mesh, at, to, of));
    wait_until(SOON, "the pair is up at both ends", || look().iter().all(|pair| pair["verdict"] == "up"));
    // what iad sends is lost, whoever called
    relays[1].set(Direction::Forward, Impairment::CUT);
    relays[0].set(Direction::Back, Impairment::CUT);
    let cut = Instant::now();
    let (mut named, mut dead) = ([None; 2], [None; 2]);
    wait_until(SOON, "neither side uses the link", || {
        for (place, pair) in look().iter().enumerate() {
            if pair["verdict"] == "silent" {
                named[place].get_or_insert(cut.elapsed());
            }
            if pair["ports"][0] == 0 {
                dead[place].get_or_insert(cut.elapsed());
            }
        }
        named.iter().chain(&dead).all(Option::is_some)
    });
    let [named, dead] = [named, dead].map(|times| times.map(Option::unwrap));
    println!("silent at both ends after {named:?}, and no packet takes the link after {dead:?} (iad, phx)");
    assert!(named.iter().all(|took| *took < NAMED), "{named:?}");
    assert!(dead.iter().all(|took| *took < NAMED), "{dead:?}");
    wait_until(SOON, "both sides call the link down", || {
        sides.iter().all(|(at, to, _)| mesh.json(&["link", "show", to, "--context", at])["state"] == "down")
    });
}

/// The pairs of both clusters' gateways that have a control connection, by the contexts of those that are asked.
fn standing(mesh: &Mesh, cluster: &Cluster, peer: &str, places: &[usize]) -> BTreeSet<(usize, String)> {
    let mut pairs = BTreeSet::new();
    for &place in places {
        let link = mesh.json(&["link", "show", peer, "--context", &cluster.gateways[place].context]);
        for gateway in link["gateways"].as_array().unwrap() {
            if gateway["control"] == true && gateway["verdict"] == "up" {
                pairs.insert((place, gateway["node"].as_str().unwrap().to_owned()));
            }
        }
    }
    pairs
}

fn independent(pairs: &BTreeSet<(usize, String)>) -> bool {
    pairs.iter().any(|a| pairs.iter().any(|b| a.0 != b.0 && a.1 != b.1))
}

#[test]
fn independent_pairs_stand_and_are_restored() {
    let mesh = Mesh::new("pairs");
    let (iad, mut phx) = mesh.pair(3);
    let all = [0, 1, 2];
    wait_until(SOON, "every gateway of iad has connections with two of phx", || {
        let pairs = standing(&mesh, &iad, "phx", &all);
        independent(&pairs)
            && all.iter().all(|place| pairs.iter().filter(|pair| pair.0 == *place).count() >= 2)
    });
    // one that is not needed for the registry of phx
    let gone = phx.gateways[2].node();
    phx.gateways[2].process.kill();
    let (pairs, took) = wait_for(SOON, "the others took its place", || {
        let pairs = standing(&mesh, &iad, "phx", &all);
        let left = pairs.iter().all(|pair| pair.1 != gone);
        let two = all.iter().all(|place| pairs.iter().filter(|pair| pair.0 == *place).count() == 2);
        (left && two && independent(&pairs)).then_some(pairs)
    });
    println!("{} pairs stand {took:?} after a gateway died: {pairs:?}", pairs.len());
}
