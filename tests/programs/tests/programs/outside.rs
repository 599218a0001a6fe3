//! Traffic that is not the mesh's, on a host whose traffic is captured: passed or refused as the operator says, and what is excluded
//! is left alone.

use crate::accounts::{APPLICATION, Account, EXCLUDED, SIDECAR};
use crate::capture::Capture;
use crate::mesh::{Clusters, Sidecar};
use crate::network::{self, PLAIN, SERVER_OUTSIDE, WORLD, WORLD_V6};
use causeway_test_mesh::{Ran, Service};
use std::net::Ipv6Addr;

const INIT: &str = "--capture redirect --uid 64999 --unprivileged-ports";
/// What curl says when a connection is refused, and when it is reset later.
const REFUSED: [Option<i32>; 3] = [Some(7), Some(52), Some(56)];

struct Client<'a>(&'a Clusters);

impl Client<'_> {
    fn curl(&self, uid: u32, url: &str) -> Ran {
        let line = format!("curl --silent --show-error --max-time 10 --globoff {url}");
        self.0.run("client", Account::User(uid), &line)
    }

    /// How many connections the sidecar has had.
    fn taken(&self) -> f64 {
        self.0.scrape("client").sum("causeway_sidecar_connections_total", "direction=\"outbound\"")
    }

    /// That a request by this user to `url` is answered, and by way of the sidecar or not.
    #[track_caller]
    fn reaches(&self, uid: u32, url: &str, through_sidecar: bool) {
        let before = self.taken();
        assert_eq!(self.curl(uid, url).ok(), if url.contains("mesh") { "web" } else { "world" }, "{url}");
        let taken = self.taken() - before;
        assert_eq!(taken, f64::from(u8::from(through_sidecar)), "{url} by {uid}: connections of the sidecar");
    }

    #[track_caller]
    fn is_refused(&self, url: &str) {
        let ran = self.curl(APPLICATION, url);
        assert!(REFUSED.contains(&ran.code), "{url}: {ran:?}");
    }
}

fn sidecar(clusters: &Clusters, outside: &str) -> Sidecar {
    let flags = ["--capture redirect".to_owned(), format!("--outside {outside}")];
    clusters.sidecar("client", Account::Raw(SIDECAR), &flags)
}

#[test]
fn what_is_not_the_meshs_is_passed_or_refused_as_told() {
    let Some(network) = network::or_skip("outside", &["nft", "curl"]) else { return };
    let clusters = Clusters::start("programs-outside", network);
    clusters.network.hosts.enter("server");
    // takes IPv4, too
    let _web = Service::http_at((Ipv6Addr::UNSPECIFIED, 8000).into(), "web");
    let served = ["--serve".to_owned(), "web.shop:80=127.0.0.1:8000".to_owned()];
    let _server = clusters.sidecar("server", Account::User(SIDECAR), &served);
    clusters.export(&["web.shop"]);
    let (mesh, client) = ("http://web.shop.mesh/", Client(&clusters));
    let world =
        [format!("http://{WORLD}/"), format!("http://{WORLD}:8080/"), format!("http://[{WORLD_V6}]/")];
    let named = format!("http://{PLAIN}/");

    let capture = Capture::of(&clusters, "client");
    capture.install(INIT);
    let passing = sidecar(&clusters, "pass");
    // one connection of the sidecar for each, so what it sends itself is not captured
    for url in world.iter().map(String::as_str).chain([&named, mesh]) {
        client.reaches(APPLICATION, url, true);
    }
    client.reaches(SIDECAR, &world[1], false);

    capture.install(&format!(
        "{INIT} --exclude-uid {EXCLUDED} --exclude-port 8080 --exclude-cidr {WORLD_V6}/128"
    ));
    client.reaches(EXCLUDED, &world[0], false);
    client.reaches(APPLICATION, &world[0], true);
    client.reaches(APPLICATION, &world[1], false);
    client.reaches(APPLICATION, &world[2], false);
    client.reaches(APPLICATION, mesh, true);

    // what is included narrows the world, never the mesh
    capture.install(&format!("{INIT} --include-port 8080 --include-cidr {WORLD}/32"));
    client.reaches(APPLICATION, &world[0], false);
    client.reaches(APPLICATION, &world[1], true);
    client.reaches(APPLICATION, &world[2], false);
    client.reaches(APPLICATION, mesh, true);
    drop(passing);

    capture.install(&format!("{INIT} --exclude-port 8080"));
    let refusing = sidecar(&clusters, "refuse");
    client.is_refused(&world[0]);
    client.is_refused(&world[2]);
    client.reaches(APPLICATION, &world[1], false);
    client.reaches(APPLICATION, mesh, true);
    let record = refusing.wait_access("a refused connection", |record| record["reason"] == "outside-mesh");
    println!("{record}");
    drop(refusing);
    // while no sidecar listens, what is captured is refused; without rules it goes its plain way
    client.is_refused(&world[0]);
    capture.remove();
    assert_eq!(client.curl(APPLICATION, &world[0]).ok(), "world");

    served_ports(&clusters, &client);
}

/// Plain connections from the world to what the server serves.
#[track_caller]
fn served_ports(clusters: &Clusters, client: &Client<'_>) {
    let plain = |addr: &str| {
        let line = format!("curl --silent --show-error --max-time 10 --globoff http://{addr}:8000/");
        clusters.run("world", Account::User(APPLICATION), &line)
    };
    let capture = Capture::of(clusters, "server");
    for addr in SERVER_OUTSIDE {
        assert_eq!(plain(addr).ok(), "web", "before any rule");
    }
    let init = Capture::of(clusters, "client");
    init.install(INIT);
    let running = sidecar(clusters, "pass");
    for policy in ["refuse --served-port 8000", "pass"] {
        capture.install(&format!("{INIT} --inbound {policy}"));
        for addr in SERVER_OUTSIDE {
            let ran = plain(addr);
            if policy == "pass" {
                assert_eq!(ran.ok(), "web");
            } else {
                assert_eq!(ran.code, Some(7), "{ran:?}");
            }
        }
        client.reaches(APPLICATION, "http://web.shop.mesh/", true);
    }
    drop(running);
    init.remove();
    capture.remove();
}
