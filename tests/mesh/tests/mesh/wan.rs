//! Two clusters with a bad WAN between them. Slow: it runs when `CAUSEWAY_SLOW` is 1.

use causeway_test_mesh::{Mesh, Service, get, loopback, skip};
use causeway_wan::{Impairment, Relay};
use std::time::{Duration, Instant};

const DOWNLOADS: usize = 8;
const SIZE: usize = 24 << 20;
/// What the downloads get together at least, in bits per second.
const GOODPUT: f64 = 100e6;

#[test]
fn downloads_over_a_lossy_wan_are_whole_and_fast() {
    if std::env::var("CAUSEWAY_SLOW").as_deref() != Ok("1") {
        return skip("wan::downloads_over_a_lossy_wan_are_whole_and_fast", "slow: set CAUSEWAY_SLOW=1");
    }
    let mesh = Mesh::new("wan");
    let path = Impairment::CLEAR.with_delay(Duration::from_millis(40)).with_loss(0.01);
    let mut relays = Vec::new();
    let [iad, phx] = ["iad", "phx"].map(|name| {
        let ip = loopback();
        // what others send to this cluster passes its relay
        let relay = Relay::start((loopback(), 7443).into(), (ip, 7443).into(), path, path, 1).unwrap();
        let [far, near] = [format!("link={}", relay.local_addr()), format!("cluster={ip}:7443")];
        relays.push(relay);
        mesh.cluster(name).at(&[ip]).flag("--advertise", &far).flag("--advertise", &near).start()
    });
    mesh.link(&iad, &phx);
    let service = Service::http("payments");
    let _pay = mesh.sidecar(&phx, "pay").serve("payments.shop:80", service.addr()).start();
    let web = mesh.sidecar(&iad, "web").listen("payments.shop:80").start();
    mesh.ok(&["export", "payments.shop", "--context", "phx"]);
    mesh.wait_offer("iad", "payments.shop", "phx", 1);
    let addr = web.addr("payments.shop:80");
    let began = Instant::now();
    assert_eq!(get(addr, "/").unwrap().text(), "payments");
    assert!(began.elapsed() >= Duration::from_millis(80), "no delay: {:?}", began.elapsed());

    let began = Instant::now();
    let downloads: Vec<_> = (0..DOWNLOADS)
        .map(|_| {
            std::thread::spawn(move || get(addr, &format!("/bytes/{SIZE}")).map(|answer| answer.body.len()))
        })
        .collect();
    let outcomes: Vec<_> = downloads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let took = began.elapsed();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(SIZE))), "{outcomes:?}");
    let goodput = (DOWNLOADS * SIZE * 8) as f64 / took.as_secs_f64();
    let seen = format!("{DOWNLOADS} downloads, none broken, {:.0} Mbit/s in all", goodput / 1e6);
    println!("{seen}");
    assert!(goodput >= GOODPUT, "{seen}");
}
