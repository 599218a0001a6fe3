//! Virtual addresses that applications remember, over restarts of the sidecar that listens on them. It needs root.

use crate::traffic::{Connecting, echo, echoes, echoing};
use causeway_test_mesh::{Hosts, Mesh, SOON, Service, skip, wait_for, wait_until};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

const DNS: &str = "127.0.0.1:5300";
const A: u8 = 1;
const AAAA: u8 = 28;

/// The address of `name`, if it has one.
fn resolve(name: &str, kind: u8) -> Option<IpAddr> {
    let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, kind, 0, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    socket.connect(DNS).unwrap();
    socket.send(&question).ok()?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).ok()?;
    let (count, end) = (answer[7], &answer[..length]);
    // the only answer is the last thing that it says, and its length is that of an address
    let size = if kind == A { 4 } else { 16 };
    let at = length.checked_sub(size).filter(|_| count == 1 && answer[11] == 0)?;
    Some(match kind {
        A => Ipv4Addr::from(<[u8; 4]>::try_from(&end[at..]).unwrap()).into(),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(&end[at..]).unwrap()).into(),
    })
}

/// Whether a datagram to `addr` comes back.
fn returns(addr: SocketAddr) -> bool {
    let any: IpAddr = if addr.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut heard = [0; 8];
    socket.connect(addr).is_ok()
        && socket.send(b"ping").is_ok()
        && socket.recv(&mut heard).is_ok_and(|length| &heard[..length] == b"ping")
}

fn echo_datagrams() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        loop {
            if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                drop(socket.send_to(&buffer[..length], from));
            }
        }
    });
    addr
}

#[test]
fn virtual_addresses_that_are_remembered_work_across_restarts() {
    const NAME: &str = "vips::virtual_addresses_that_are_remembered_work_across_restarts";
    let hosts = match Hosts::new(&["vips"]) {
        Ok(hosts) => hosts,
        Err(why) => return skip(NAME, &why),
    };
    hosts.enter("vips");
    let mesh = Mesh::new("vips");
    mesh.ok(&["sidecar", "init", "--capture", "vip"]);
    let mut iad = mesh.cluster("iad").start();
    let (service, datagrams) = (Service::echo(), echo_datagrams());
    let mut pay = mesh
        .sidecar(&iad, "pay")
        .serve("payments.shop:80", service.addr())
        .serve("payments.shop:53/udp", datagrams)
        .start();
    let mut web = mesh.sidecar(&iad, "web").flag("--capture", "vip").flag("--dns-listen", DNS).start();
    let resolve = |kind| wait_for(SOON, "the name has an address", || resolve("payments.shop.mesh", kind)).0;
    let [v4, v6] = [resolve(A), resolve(AAAA)].map(|ip| SocketAddr::new(ip, 80));
    for addr in [v4, v6] {
        wait_until(SOON, "the first connection", || echoes(addr));
    }
    let flows = [v4, v6].map(|addr| SocketAddr::new(addr.ip(), 53));
    flows.iter().for_each(|addr| assert!(returns(*addr), "{addr}"));

    // from here on nobody asks for the name: handed over
    let (open, connecting) = (echoing(v4), Connecting::start(v4, 2));
    let over_v6 = Connecting::start(v6, 1);
    connecting.go_on(50);
    let mut old = web.succeed();
    connecting.go_on(50);
    over_v6.go_on(20);
    for addr in flows {
        wait_until(SOON, "a flow of the next process", || returns(addr));
    }
    echo(&open).unwrap();
    drop(open);
    assert_eq!(old.wait_exit(SOON).code(), Some(0), "{}", old.tail());
    connecting.go_on(50);
    println!("handed over: {:?}, {:?}", connecting.end_well(), over_v6.end_well());
    assert!(!web.process.log().contains("cannot listen on a virtual address"), "{}", web.process.tail());

    // stopped and started again, and killed
    for kill in [false, true] {
        if !kill {
            assert_eq!(web.process.terminate(SOON).code(), Some(0), "{}", web.process.tail());
            assert!(!echoes(v4), "nobody listens");
        }
        web.restart();
        web.wait_ready();
        assert!(echoes(v4) && echoes(v6), "a restarted one listens at once");
        flows.iter().for_each(|addr| assert!(returns(*addr), "{addr}"));
    }

    // while nobody offers the service, and no gateway is there
    assert_eq!(pay.process.terminate(SOON).code(), Some(0), "{}", pay.process.tail());
    mesh.wait_offer("iad", "payments.shop", "iad", 0);
    web.restart();
    web.wait_ready();
    assert!(!echoes(v4));
    iad.gateways[0].process.kill();
    web.restart();
    pay.restart();
    iad.gateways[0].restart();
    iad.gateways[0].wait_ready();
    pay.wait_ready();
    web.wait_ready();
    for addr in [v4, v6] {
        wait_until(SOON, "it is listened on once somebody offers it", || echoes(addr));
    }
}
