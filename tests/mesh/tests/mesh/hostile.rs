//! Garbage at every port: nothing crashes, drops are counted, memory stays where it was, and the mesh goes on.

use causeway_identity::SvidSource;
use causeway_test_mesh::{Gateway, Intruder, Mesh, SOON, Service, Stolen, get, wait_until};
use causeway_wire::alpn;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;
use tokio::time::timeout;

/// How much memory garbage may cost for good, in bytes.
const GROWTH: u64 = 6 << 20;
const SEED: u64 = 20_261_123;

fn random(rng: &mut StdRng, len: usize) -> Vec<u8> {
    (0..len).map(|_| rng.random()).collect()
}

/// Datagrams that are almost something: random bytes with the first ones of a packet or a probe.
fn datagram(rng: &mut StdRng) -> Vec<u8> {
    let len = match rng.random_range(0..8) {
        0 => rng.random_range(0..8),
        1 => rng.random_range(8..64),
        2 => 64,
        3 => rng.random_range(1452..9000),
        4 => 65_507,
        _ => rng.random_range(64..1452),
    };
    let mut bytes = random(rng, len);
    let heads: [&[u8]; 8] = [
        &[],
        &[0x01, 0x01, 0x00, 0x01],
        &[0x02, 0x01, 0x00, 0x00],
        &[0xc0, 0, 0, 0, 1, 20, 0x30],
        &[0xc0, 0, 0, 0, 1, 255],
        &[0x40, 0x10],
        &[0x40, 0x30],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 20],
    ];
    let head = heads[rng.random_range(0..heads.len())];
    let shared = head.len().min(bytes.len());
    bytes[..shared].copy_from_slice(&head[..shared]);
    bytes
}

fn udp_round(rng: &mut StdRng, ports: &[SocketAddr]) {
    for &addr in ports {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..500 {
            // a full queue is the receiver's to bear
            let _ = socket.send_to(&datagram(rng), addr);
        }
    }
}

fn tcp_round(rng: &mut StdRng, ports: &[SocketAddr]) {
    let mut long = b"GET /metrics HTTP/1.1\r\nX: ".to_vec();
    long.resize(1 << 20, b'x');
    let mut many = b"GET / HTTP/1.1\r\n".to_vec();
    (0..5000).for_each(|n| many.extend_from_slice(format!("X-{n}: y\r\n").as_bytes()));
    // a TLS record of a client hello that announces more than it has, and one of the largest length
    let mut hello = vec![0x16, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff];
    hello.extend(random(rng, 300));
    let inputs = [
        random(rng, 2000),
        hello,
        vec![0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"POST /v1/tokens HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n{".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\0\0\0\0".to_vec(),
        Vec::new(),
        long,
        many,
    ];
    for &addr in ports {
        for input in &inputs {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
            // whether it is heard out is up to the other side
            let _ = stream.write_all(input);
            let _ = stream.read(&mut [0; 4096]);
        }
        // connections that say nothing and stay, more than the server keeps
        let idle: Vec<_> = (0..200).map(|_| TcpStream::connect(addr).unwrap()).collect();
        drop(idle);
    }
}

/// What is said on streams: frames that announce too much or too little, of every kind, cut, and plain noise.
fn messages(rng: &mut StdRng) -> Vec<Vec<u8>> {
    let mut all = vec![
        vec![0xff; 16],
        vec![0; 16],
        vec![0, 0, 0, 8],
        vec![0, 0x10, 0, 1, 0, 1, 0, 1],
        random(rng, 2 << 20),
    ];
    for kind in 0..20_u8 {
        let body = random(rng, 100);
        let mut frame = vec![0, 0, 0, 104, 0, kind, 0, 1];
        frame.extend(body);
        all.push(frame);
    }
    all
}

async fn control_round(
    rng: &mut StdRng,
    gateway: &Gateway,
    target: &Stolen,
    identities: &[(&[u8], Option<&SvidSource>)],
) {
    let intruder = Intruder::new();
    for (protocol, identity) in identities {
        for message in messages(rng) {
            let Ok(connection) = intruder.dial(gateway.overlay(), target, *identity, protocol).await else {
                panic!("{} was not taken", String::from_utf8_lossy(protocol))
            };
            let talk = async {
                let (mut send, mut recv) = connection.open_bi().await.ok()?;
                send.write_all(&message).await.ok()?;
                send.finish().ok()?;
                recv.read_to_end(1 << 20).await.ok()
            };
            // it may answer, refuse or close; what it may not do is leave us hanging for ever
            let _ = timeout(Duration::from_millis(500), talk).await;
            if let Ok(mut noise) = connection.open_uni().await {
                let _ = timeout(Duration::from_millis(100), noise.write_all(&message)).await;
            }
            connection.close(0_u32.into(), b"");
        }
    }
}

#[test]
fn garbage_at_every_port_changes_nothing() {
    let mesh = Mesh::new("garbage");
    let (mut iad, phx) = mesh.pair(1);
    let service = Service::http("payments");
    let mut pay = mesh.sidecar(&phx, "pay").serve("payments.shop:80", service.addr()).start();
    let web = mesh.sidecar(&iad, "web").listen("payments.shop:80").start();
    mesh.ok(&["export", "payments.shop", "--context", "phx"]);
    mesh.wait_offer("iad", "payments.shop", "phx", 1);
    let calls = || assert_eq!(get(web.addr("payments.shop:80"), "/").unwrap().text(), "payments");
    calls();

    let mut rng = StdRng::seed_from_u64(SEED);
    let gateway = &iad.gateways[0];
    let (target, member) = (Stolen::from_gateway(&gateway.data_dir), Stolen::from_sidecar(&web.state_dir));
    let linked = Stolen::from_gateway(&phx.gateways[0].data_dir);
    let udp = [gateway.overlay(), pay.overlay()];
    let tcp = [gateway.admin(), gateway.telemetry(), pay.telemetry()];
    let speakers: [(&[u8], Option<&SvidSource>); 6] = [
        (alpn::RAFT, None),
        (alpn::LINK, None),
        (alpn::CTL, None),
        (alpn::RAFT, Some(&target.svid)),
        (alpn::LINK, Some(&linked.svid)),
        (alpn::CTL, Some(&member.svid)),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let round = |rng: &mut StdRng| {
        udp_round(rng, &udp);
        tcp_round(rng, &tcp);
        runtime.block_on(control_round(rng, gateway, &target, &speakers));
    };
    // the first rounds fill what is filled once: buffers, the allocator's arenas, tables of bounded size
    let before = gateway.scrape();
    round(&mut rng);
    round(&mut rng);
    let resident = [gateway.process.resident(), pay.process.resident()];
    for _ in 0..3 {
        round(&mut rng);
    }
    for (process, resident) in [&gateway.process, &pay.process].into_iter().zip(resident) {
        let grown = process.resident().saturating_sub(resident);
        assert!(grown < GROWTH, "{} grew by {grown} bytes, seed {SEED}", process.name());
    }
    for reason in ["malformed", "bad-probe", "unknown-source"] {
        let grown = gateway.scrape().dropped(reason) - before.dropped(reason);
        assert!(grown > 0.0, "no drop of {reason} was counted\n{}", gateway.scrape().text());
    }
    // the connections that were left behind are given up, and then everybody is served as before
    wait_until(SOON, "telemetry answers", || {
        get(gateway.telemetry(), "/ready").is_ok_and(|answer| answer.status == 200)
    });
    wait_until(SOON, "the sidecar's telemetry answers", || {
        get(pay.telemetry(), "/ready").is_ok_and(|a| a.status == 200)
    });
    wait_until(SOON, "the admin API answers", || mesh.run(&["status", "--context", "iad"]).code == Some(0));
    calls();
    for process in [&mut iad.gateways[0].process, &mut pay.process] {
        process.assert_running();
        assert!(!process.log().contains("panicked"), "{} panicked, seed {SEED}", process.name());
    }
}
