//! What users see when something breaks, row by row. Each row has its test; those that are not here:
//!
//! | what breaks | test |
//! | --- | --- |
//! | a gateway is killed | `outages`, with streams and flows of hundreds of users; `gateways`; the pause itself: `causeway demo --check` |
//! | all gateways of a cluster | here |
//! | a link, or a whole region | `regions`; what is asked of a cluster that is gone: `links` |
//! | a sidecar or workload is killed | here; its load: `spread`, `ejections` |
//! | the registry loses its quorum | `gateways`; `quorum` and `leader` of tests/chaos |
//! | the disk is full, or a log damaged | `damage`; `disks` of tests/chaos |
//! | a clock is wrong | the slack of certificates: `causeway-identity`; nothing else looks at one: `causeway-test-layers` |
//! | garbage or hostile packets | `hostile` |

use crate::names::Asked;
use causeway_test_mesh::{Mesh, SOON, Service, get, wait_until};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// In which time a dead sidecar's streams are reset, and nobody is led to it any more; counted with `CAUSEWAY_SLOW=1`.
const GONE: Duration = Duration::from_secs(2);
/// Longer than gateways take to find one that is away, shorter than a connection may be idle.
const AWAY: Duration = Duration::from_secs(6);

/// A connection that is answered what it says.
struct Talk(TcpStream);

impl Talk {
    #[track_caller]
    fn begin(addr: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut talk = Self(stream);
        talk.say(b"first");
        talk.hear(b"first");
        talk
    }

    #[track_caller]
    fn say(&mut self, words: &[u8]) {
        self.0.write_all(words).unwrap();
    }

    #[track_caller]
    fn hear(&mut self, words: &[u8]) {
        let mut heard = vec![0; words.len()];
        self.0.read_exact(&mut heard).unwrap();
        assert_eq!(heard, words);
    }
}

#[test]
fn without_any_gateway_of_a_cluster_its_own_traffic_goes_on_and_the_rest_waits_for_them() {
    let mesh = Mesh::new("no-gateways");
    let (mut iad, phx) = mesh.pair(2);
    let (near, far) = (Service::echo(), Service::echo());
    let page = Service::http("page");
    let serve = |cluster, name: &str| mesh.sidecar(cluster, name);
    let _near =
        serve(&iad, "near").serve("near.shop:9", near.addr()).serve("page.shop:80", page.addr()).start();
    let _far = serve(&phx, "far").serve("far.shop:9", far.addr()).start();
    mesh.ok(&["export", "far.shop", "--context", "phx"]);
    for context in ["iad", "iad-2"] {
        mesh.wait_offer(context, "far.shop", "phx", 1);
    }
    let web = serve(&iad, "web").listen("near.shop:9").listen("far.shop:9").listen("page.shop:80").start();
    let asked = Asked::start(serve(&iad, "asked"));
    let known = ["far.shop.mesh.", "near.shop.mesh."].map(|name| asked.vip(name));
    let mut near = Talk::begin(web.addr("near.shop:9"));
    let mut far = Talk::begin(web.addr("far.shop:9"));
    assert_eq!(get(web.addr("page.shop:80"), "/").unwrap().text(), "page");

    for gateway in &mut iad.gateways {
        gateway.process.kill();
    }
    let killed = Instant::now();
    far.say(b"are you there");
    let mut slowest = Duration::ZERO;
    while killed.elapsed() < AWAY {
        let began = Instant::now();
        near.say(b"next");
        near.hear(b"next");
        assert_eq!(get(web.addr("page.shop:80"), "/").unwrap().text(), "page", "a new connection");
        slowest = slowest.max(began.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("within the cluster, the slowest answers took {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "within the cluster, answers took {slowest:?}");
    assert_eq!(["far.shop.mesh.", "near.shop.mesh."].map(|name| asked.vip(name)), known);
    far.0.set_nonblocking(true).unwrap();
    let pending = far.0.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(pending, Err(ErrorKind::WouldBlock), "it waits: there is no way, and nothing broke");
    far.0.set_nonblocking(false).unwrap();

    for gateway in &mut iad.gateways {
        gateway.restart();
    }
    let back = Instant::now();
    far.hear(b"are you there");
    println!("{:?} after their start the stream to the other cluster went on", back.elapsed());
    iad.gateways.iter_mut().for_each(|gateway| gateway.wait_ready());
    drop(Talk::begin(web.addr("far.shop:9")));
    for sidecar in [&web, &asked.sidecar] {
        let broken = sidecar.process.access().iter().filter(|record| record["reason"] != "done").count();
        assert_eq!(broken, 0, "{}", sidecar.process.tail());
    }
}

#[test]
fn the_streams_of_a_sidecar_that_is_killed_are_reset_and_every_gateway_forgets_it() {
    let mesh = Mesh::new("sidecar-kill");
    let (iad, phx) = mesh.pair(2);
    let service = Service::echo();
    let serve = |name: &str| mesh.sidecar(&phx, name).serve("far.shop:9", service.addr()).start();
    let mut killed = serve("far");
    mesh.ok(&["export", "far.shop", "--context", "phx"]);
    let contexts = ["phx", "phx-2", "iad", "iad-2"];
    for context in contexts {
        mesh.wait_offer(context, "far.shop", "phx", 1);
    }
    // over gateways, and straight
    let callers = [&iad, &phx].map(|cluster| mesh.sidecar(cluster, "caller").listen("far.shop:9").start());
    let mut talks = callers.each_ref().map(|caller| Talk::begin(caller.addr("far.shop:9")));

    // beside other tests, and not optimised, the last look of the command line alone takes its time
    let limit = if std::env::var("CAUSEWAY_SLOW").as_deref() == Ok("1") { GONE } else { 2 * GONE };
    killed.process.kill();
    let began = Instant::now();
    let waiting = talks.each_mut().map(|talk| {
        let mut stream = talk.0.try_clone().unwrap();
        std::thread::spawn(move || {
            let ended = stream.read(&mut [0]).map_err(|error| error.kind());
            (ended, began.elapsed())
        })
    });
    let healthy = &|context: &str| {
        let page = mesh.json(&["services", "far.shop", "--context", context]);
        page["services"][0]["offers"][0]["healthy"].as_u64().unwrap_or_default()
    };
    let gone = std::thread::scope(|scope| {
        let looking = contexts.map(|context| {
            scope.spawn(move || {
                wait_until(SOON, &format!("{context} has forgotten it"), || healthy(context) == 0);
                began.elapsed()
            })
        });
        looking.map(|thread| thread.join().unwrap())
    });
    let ends = waiting.map(|thread| thread.join().unwrap());
    println!("streams ended {ends:?}; gateways forgot it after {gone:?}");
    for (ended, took) in ends {
        assert_eq!(ended, Err(ErrorKind::ConnectionReset));
        assert!(took < limit, "a stream was reset after {took:?}");
    }
    assert!(gone.iter().all(|took| *took < limit), "{gone:?}");
}
