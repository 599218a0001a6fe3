//! `vip`: a sidecar without privilege listens on virtual addresses, and nobody else reaches them.

use crate::hosts::said;
use crate::programs::{DEADLINE, application_udp, ask};
use crate::{APP, SIDECAR, as_user, config, hosts};
use causeway_capture::{CaptureConfig, CaptureMode, CaptureOptions, any_ip, inspect, install, remove};
use socket2::{Domain, Socket, Type};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const VIPS: [&str; 2] = ["240.0.0.7:80", "[fd9c:43a6:77c1::7]:80"];

fn vip() -> CaptureConfig {
    config(CaptureMode::Vip, CaptureOptions { unprivileged_ports: true, ..CaptureOptions::default() })
}

/// As the sidecar does: without privilege.
fn listen(addr: &str) -> TcpListener {
    let listener = as_user(SIDECAR, || any_ip::bind_tcp(addr.parse().unwrap())).unwrap();
    listener.set_nonblocking(false).unwrap();
    listener
}

#[test]
fn a_sidecar_without_privilege_serves_virtual_addresses_to_this_host_only() {
    let Some(hosts) = hosts("vip") else { return };
    let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
    let denied = as_user(SIDECAR, || any_ip::bind_tcp(addr("127.0.0.1:80"))).unwrap_err();
    assert_eq!(denied.reason(), "address_denied", "{denied}");
    for vip in VIPS {
        let before = as_user(SIDECAR, || any_ip::bind_tcp(addr(vip))).unwrap_err();
        assert_eq!(before.reason(), "route_missing", "{before}");
        let before = as_user(SIDECAR, || any_ip::bind_udp(addr(vip))).unwrap_err();
        assert_eq!(before.reason(), "route_missing", "{before}");
    }

    install(&vip()).unwrap();
    install(&vip()).unwrap();
    assert!(inspect(&vip()).unwrap().iter().all(|finding| finding.installed));
    for (vip, other) in [(VIPS[0], "240.0.0.8:80"), (VIPS[1], "[fd9c:43a6:77c1::8]:80")] {
        let listener = listen(vip);
        let mut client = as_user(APP, || TcpStream::connect(vip)).unwrap();
        let (mut server, from) = listener.accept().unwrap();
        assert!(from.ip().is_loopback(), "{from}");
        assert_eq!(server.local_addr().unwrap(), addr(vip));
        server.write_all(b"sidecar").unwrap();
        drop(server);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "sidecar");
        // a neighbour that routes virtual addresses to this host
        let reached = hosts.at_peer(|| TcpStream::connect_timeout(&addr(vip), Duration::from_millis(500)));
        assert!(reached.is_err(), "{vip} is open to the network");
        // another service has the same port
        drop(listen(other));
    }
    let removed = remove().unwrap();
    assert_eq!(removed.len(), 3, "{removed:?}");
    assert_eq!(said("cat /proc/sys/net/ipv4/ip_unprivileged_port_start").trim(), "1024");
    assert_eq!(any_ip::bind_tcp(addr(VIPS[0])).unwrap_err().reason(), "route_missing");
    assert!(ask(VIPS[0]).is_err());
    assert_eq!(remove().unwrap(), Vec::<String>::new());
}

#[test]
fn applications_that_bind_an_address_of_their_own_are_served() {
    let Some(_hosts) = hosts("vip, bound") else { return };
    install(&vip()).unwrap();
    for (vip, own) in [(VIPS[0], "10.77.0.1:0"), (VIPS[1], "[::1]:0"), (VIPS[0], "127.0.0.1:0")] {
        let listener = listen(vip);
        let (vip, own): (SocketAddr, SocketAddr) = (vip.parse().unwrap(), own.parse().unwrap());
        let socket = Socket::new(Domain::for_address(own), Type::STREAM, None).unwrap();
        socket.bind(&own.into()).unwrap();
        let connected = socket.connect_timeout(&vip.into(), DEADLINE);
        connected.unwrap_or_else(|error| panic!("{own} to {vip}: {error}"));
        let (mut server, from) = listener.accept().unwrap();
        assert_eq!(from.ip(), own.ip());
        server.write_all(b"x").unwrap();
        let mut client = TcpStream::from(socket);
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    remove().unwrap();
}

#[test]
fn datagrams_are_received_and_answered_without_privilege_to_this_host_only() {
    let Some(hosts) = hosts("vip, udp") else { return };
    install(&vip()).unwrap();
    for (vip, own) in VIPS.into_iter().zip(["10.77.0.1:0", "[fd77::1]:0"]) {
        let socket = as_user(SIDECAR, || any_ip::bind_udp(vip.parse().unwrap())).unwrap();
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        // what a neighbour sends is dropped, and so the first that comes is not his
        hosts.at_peer(|| application_udp(vip).send(b"spoofed")).unwrap();
        let bound = UdpSocket::bind(own).unwrap();
        bound.connect(vip).unwrap();
        bound.set_read_timeout(Some(DEADLINE)).unwrap();
        for application in [as_user(APP, || application_udp(vip)), bound] {
            application.send(b"ping").unwrap();
            let mut buffer = [0; 16];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (&b"ping"[..], application.local_addr().unwrap()));
            socket.send_to(b"pong", from).unwrap();
            assert_eq!(application.recv(&mut buffer).unwrap(), 4);
        }
    }
    remove().unwrap();
}

#[test]
fn a_setting_that_was_there_before_stays() {
    let Some(_hosts) = hosts("vip, setting") else { return };
    let file = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    // as Docker has it
    std::fs::write(file, "0").unwrap();
    install(&vip()).unwrap();
    remove().unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap().trim(), "0");
    std::fs::write(file, "80").unwrap();
    install(&vip()).unwrap();
    install(&vip()).unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap().trim(), "0");
    remove().unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap().trim(), "80");
}
