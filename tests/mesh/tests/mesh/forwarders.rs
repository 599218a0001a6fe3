//! A forwarder carries traffic, holds no key that signs, and its cluster knows it as what it is.

use causeway_test_mesh::{Cluster, Mesh, SOON, Service, wait_until};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const SERVICE: &str = "echo.test:80";
/// For longer than this the cluster's other gateways would vouch for the sidecars of a gateway that died.
const ORPHANED: Duration = Duration::from_secs(7);
/// What no gateway may have had to say of another one of its cluster, or of a linked one.
const REFUSALS: [&str; 6] =
    ["wrong-role", "wrong-identity", "not-a-member", "gateway-unknown", "connection refused:", "panicked"];

/// One connection through the mesh, to an application that says back what it is told.
struct Echo {
    stream: TcpStream,
    said: u32,
}

impl Echo {
    fn new(addr: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        Self { stream, said: 0 }
    }

    /// Says something and hears it.
    fn speak(&mut self) {
        self.said += 1;
        let mut heard = [0; 4];
        self.stream.write_all(&self.said.to_be_bytes()).unwrap();
        self.stream.read_exact(&mut heard).unwrap();
        assert_eq!(heard, self.said.to_be_bytes());
    }

    fn speak_for(&mut self, time: Duration) {
        let began = Instant::now();
        while began.elapsed() < time {
            self.speak();
        }
    }
}

/// What the cluster's first gateway says of its forwarder.
fn forwarder_row(mesh: &Mesh, cluster: &Cluster) -> Value {
    let gateways = mesh.json(&["gateways", "--context", cluster.name()]);
    let mut rows = gateways.as_array().unwrap().iter().filter(|row| row["role"] == "forwarder");
    rows.next().unwrap_or_else(|| panic!("no forwarder in {gateways}")).clone()
}

fn forwarded(cluster: &Cluster, index: usize) -> f64 {
    cluster.gateways[index].scrape().sum("causeway_forwarder_packets_forwarded_total", "")
}

#[test]
fn a_stream_outlives_the_gateway_that_signs_and_goes_on_over_the_forwarder() {
    let mesh = Mesh::new("forwarder");
    let mut iad = mesh.cluster("iad").start();
    iad.add_forwarder();
    let phx = mesh.cluster("phx").start();
    mesh.link(&iad, &phx);
    wait_until(SOON, "the forwarder is alive and follows the registry", || {
        let row = forwarder_row(&mesh, &iad);
        row["alive"] == true && row["registry"] == "learner"
    });
    let table = mesh.ok(&["gateways", "--context", "iad"]);
    assert!(table.lines().any(|row| row.contains("forwarder") && row.contains("learner")), "{table}");

    let service = Service::echo();
    let _server = mesh.sidecar(&phx, "server").serve(SERVICE, service.addr()).start();
    let client = mesh.sidecar(&iad, "client").listen(SERVICE).start();
    mesh.ok(&["export", "echo.test", "--context", "phx"]);
    mesh.wait_offer("iad", "echo.test", "phx", 1);
    let mut echo = Echo::new(client.addr(SERVICE));
    echo.speak_for(Duration::from_millis(500));

    // the only gateway that signs: what is left is the forwarder
    iad.gateways[0].process.kill();
    let before = forwarded(&iad, 1);
    echo.speak_for(ORPHANED);
    assert!(forwarded(&iad, 1) > before, "the forwarder carried nothing");
    Echo::new(client.addr(SERVICE)).speak();

    // back, with the registry and its key; then the forwarder dies, and comes back with its SVID
    iad.gateways[0].restart();
    iad.gateways[0].wait_ready();
    wait_until(SOON, "the forwarder is seen again", || forwarder_row(&mesh, &iad)["alive"] == true);
    echo.speak();
    iad.gateways[1].process.kill();
    echo.speak_for(Duration::from_secs(1));
    iad.gateways[1].restart();
    iad.gateways[1].wait_ready();
    wait_until(SOON, "the forwarder that came back is alive", || forwarder_row(&mesh, &iad)["alive"] == true);
    echo.speak();
    assert_eq!(service.taken(), 2);

    for gateway in iad.gateways.iter().chain(&phx.gateways) {
        let log = gateway.process.log();
        for refusal in REFUSALS {
            assert!(!log.contains(refusal), "{refusal}: {}", gateway.process.tail());
        }
    }
}
