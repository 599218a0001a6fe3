//! `redirect`: what is captured, what is not, and that the rules come and go.

use crate::hosts::said;
use crate::programs::{Standing, application_udp, ask, ask_udp, serve, serve_captured, serve_udp};
use crate::{APP, EXCLUDED, RESOLVER, SIDECAR, as_user, config, hosts};
use causeway_capture::{
    Batch, CaptureConfig, CaptureMode, CaptureOptions, TransparentUdp, inspect, install, remove, reply_socket,
};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

fn redirect() -> CaptureConfig {
    let options = CaptureOptions {
        uid: vec![SIDECAR.to_string()],
        exclude_uid: vec![EXCLUDED.to_string()],
        exclude_port: vec!["2222".into()],
        exclude_cidr: vec!["198.51.100.0/24".into()],
        ..CaptureOptions::default()
    };
    config(CaptureMode::Redirect, options)
}

#[test]
fn tcp_goes_to_the_sidecar_but_for_what_is_excluded() {
    let Some(hosts) = hosts("redirect, tcp") else { return };
    hosts.at_peer(|| {
        for port in [80, 2222] {
            serve(&format!("0.0.0.0:{port}"), "peer");
            serve(&format!("[2001:db8::1]:{port}"), "peer");
        }
    });
    let listener = hosts.at_peer(|| TcpListener::bind("192.0.2.1:9000").unwrap());
    let mut standing = Standing::new(&listener, || TcpStream::connect("192.0.2.1:9000").unwrap());
    serve("10.77.0.1:7000", "here");
    serve("[fd77::1]:7000", "here");
    install(&redirect()).unwrap();
    standing.works();
    // nobody listens yet
    assert_eq!(ask("192.0.2.1:80").unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    serve_captured("127.0.0.1:15001");
    serve_captured("[::1]:15001");
    for to in ["192.0.2.1:80", "240.0.0.7:80", "240.0.0.7:2222", "[2001:db8::1]:80", "[fd9c:43a6:77c1::7]:80"]
    {
        for uid in [0, APP] {
            assert_eq!(as_user(uid, || ask(to)).unwrap(), format!("captured {to}"), "{to} by {uid}");
        }
    }
    for (uid, to) in [
        (SIDECAR, "192.0.2.1:80"),
        (SIDECAR, "[2001:db8::1]:80"),
        (EXCLUDED, "192.0.2.1:80"),
        (EXCLUDED, "[2001:db8::1]:80"),
        (APP, "192.0.2.1:2222"),
        (APP, "[2001:db8::1]:2222"),
        (APP, "198.51.100.1:80"),
    ] {
        assert_eq!(as_user(uid, || ask(to)).unwrap(), "peer", "{to} by {uid}");
    }
    for to in ["10.77.0.1:7000", "[fd77::1]:7000"] {
        assert_eq!(ask(to).unwrap(), "here");
    }
    assert_eq!(as_user(EXCLUDED, || ask("240.0.0.7:80")).unwrap(), "captured 240.0.0.7:80");
    // the sidecar cannot reach itself by mistake
    assert!(as_user(SIDECAR, || ask("240.0.0.7:80")).is_err());
    assert_eq!(ask("127.0.0.1:15001").unwrap(), "not captured: NotConnected");
    standing.works();
    remove().unwrap();
    assert_eq!(ask("192.0.2.1:80").unwrap(), "peer");
}

#[test]
fn dns_goes_to_the_sidecar_wherever_it_is_sent() {
    let Some(hosts) = hosts("redirect, dns") else { return };
    hosts.at_peer(|| {
        for addr in ["192.0.2.1", "[2001:db8::1]"] {
            serve(&format!("{addr}:53"), "peer");
            serve_udp(&format!("{addr}:53"), "peer");
            serve_udp(&format!("{addr}:123"), "peer");
        }
    });
    install(&redirect()).unwrap();
    for addr in ["127.0.0.1:15053", "[::1]:15053"] {
        serve(addr, "sidecar");
        serve_udp(addr, "sidecar");
    }
    for to in ["192.0.2.1:53", "[2001:db8::1]:53", "127.0.0.53:53", "[::1]:53"] {
        let asked = as_user(APP, || (ask_udp(to).unwrap(), ask(to).unwrap()));
        assert_eq!(asked, ("sidecar".to_owned(), "sidecar".to_owned()), "{to}");
    }
    for uid in [SIDECAR, RESOLVER, EXCLUDED] {
        for to in ["192.0.2.1:53", "[2001:db8::1]:53"] {
            let asked = as_user(uid, || (ask_udp(to).unwrap(), ask(to).unwrap()));
            assert_eq!(asked, ("peer".to_owned(), "peer".to_owned()), "{to} by {uid}");
        }
    }
    // other UDP is not the mesh's
    assert_eq!(ask_udp("192.0.2.1:123").unwrap(), "peer");
    remove().unwrap();
    assert_eq!(ask_udp("192.0.2.1:53").unwrap(), "peer");
}

#[test]
fn udp_to_virtual_addresses_comes_as_it_was_sent_and_is_answered_from_there() {
    let Some(_hosts) = hosts("redirect, udp") else { return };
    install(&redirect()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (listen, to) in [
            ("127.0.0.1:15001", "240.0.0.9:5000"),
            ("[::1]:15001", "[fd9c:43a6:77c1::9]:5000"),
            ("127.0.0.1:15001", "240.0.0.9:53"),
        ] {
            let captured = TransparentUdp::bind(listen.parse().unwrap()).unwrap();
            let mut batch = Batch::new();
            let application = application_udp(to);
            let original: SocketAddr = to.parse().unwrap();
            let replies = reply_socket(original).unwrap();
            for round in 0..3 {
                exchange(&captured, &mut batch, &application, original, &replies, round).await;
            }
        }
    });
}

/// A burst from the application, each datagram answered.
async fn exchange(
    captured: &TransparentUdp,
    batch: &mut Batch,
    application: &UdpSocket,
    original: SocketAddr,
    replies: &UdpSocket,
    round: u8,
) {
    const BURST: u8 = 100;
    for number in 0..BURST {
        application.send(&[&[round, number][..], &[7; 1398]].concat()).unwrap();
    }
    let (mut count, mut calls) = (0, 0);
    while count < BURST {
        tokio::time::timeout(Duration::from_secs(5), captured.recv(batch)).await.unwrap().unwrap();
        calls += 1;
        for datagram in batch.iter() {
            assert_eq!(datagram.source, application.local_addr().unwrap());
            assert!(datagram.source.ip().is_loopback(), "{datagram:?}");
            assert_eq!((datagram.original, datagram.payload.len()), (original, 1400));
            assert_eq!(datagram.payload[..2], [round, count]);
            replies.send_to(&datagram.payload[..2], datagram.source).unwrap();
            count += 1;
        }
    }
    assert!(calls < BURST, "a call takes many datagrams");
    let mut answer = [0; 8];
    for number in 0..BURST {
        assert_eq!(application.recv(&mut answer).unwrap(), 2);
        assert_eq!(answer[..2], [round, number]);
    }
}

#[test]
fn a_host_without_any_route_reaches_virtual_addresses() {
    let Some(_hosts) = hosts("redirect, no routes") else { return };
    said("ip link set veth0 down");
    assert!(ask("240.0.0.7:80").is_err());
    install(&redirect()).unwrap();
    serve_captured("127.0.0.1:15001");
    serve_captured("[::1]:15001");
    for to in ["240.0.0.7:80", "[fd9c:43a6:77c1::7]:80"] {
        assert_eq!(ask(to).unwrap(), format!("captured {to}"));
    }
}

#[test]
fn rules_are_installed_once_told_of_and_removed_once() {
    let Some(_hosts) = hosts("redirect, again") else { return };
    let config = redirect();
    let missing = inspect(&config).unwrap();
    assert!(missing.len() > 10 && missing.iter().all(|finding| !finding.installed), "{missing:?}");
    assert_eq!(remove().unwrap(), Vec::<String>::new());

    let first = install(&config).unwrap();
    let (rules, routes) = (said("nft list ruleset"), said("ip route show table local proto 243"));
    assert_eq!(install(&config).unwrap(), first);
    assert_eq!((said("nft list ruleset"), said("ip route show table local proto 243")), (rules, routes));
    assert!(inspect(&config).unwrap().iter().all(|finding| finding.installed));

    // another's table is not touched
    said("nft add table inet other");
    // other settings are told apart, and so is a rule that somebody took out
    let mut other = redirect();
    other.ipv6 = false;
    assert!(inspect(&other).unwrap().iter().any(|finding| !finding.installed));
    said("nft flush chain inet causeway datagrams");
    let findings = inspect(&config).unwrap();
    let gone: Vec<_> =
        findings.iter().filter(|finding| !finding.installed).map(|f| f.what.as_str()).collect();
    assert_eq!(gone, ["rule: UDP to 240.0.0.0/8", "rule: UDP to fd9c:43a6:77c1::/48"]);

    let removed = remove().unwrap();
    assert_eq!(removed.len(), 3, "{removed:?}");
    assert_eq!(said("nft list ruleset").trim(), "table inet other {\n}");
    assert_eq!(remove().unwrap(), Vec::<String>::new());
    assert!(inspect(&config).unwrap().iter().all(|finding| !finding.installed));
}

#[test]
fn every_rule_that_there_can_be_is_taken_by_the_kernel() {
    let Some(_hosts) = hosts("redirect, every rule") else { return };
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let options = CaptureOptions {
        uid: words(&["1", "2"]),
        gid: words(&["3"]),
        exclude_uid: words(&["4"]),
        include_port: words(&["80", "8000-8010", "8005-9000"]),
        exclude_port: words(&["22", "1-65535"]),
        include_cidr: words(&["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/1", "fd00::/8"]),
        exclude_cidr: words(&["10.1.0.0/16", "10.1.2.0/24", "10.1.2.3", "fd00:1::/32", "::/0"]),
        inbound: Some(causeway_capture::Inbound::Refuse),
        served_port: words(&["8080", "53/udp"]),
        ..CaptureOptions::default()
    };
    let config = config(CaptureMode::Redirect, options);
    install(&config).unwrap();
    assert!(inspect(&config).unwrap().iter().all(|finding| finding.installed));
}

#[test]
fn without_privilege_it_says_what_is_needed() {
    let Some(_hosts) = hosts("redirect, no privilege") else { return };
    for error in [
        as_user(APP, || install(&redirect())).unwrap_err(),
        as_user(APP, remove).unwrap_err(),
        as_user(APP, || inspect(&redirect())).unwrap_err(),
    ] {
        assert!(error.reason() == "not_permitted" && error.to_string().contains("CAP_NET_ADMIN"), "{error}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bound =
        as_user(APP, || runtime.block_on(async { TransparentUdp::bind("127.0.0.1:0".parse().unwrap()) }));
    let error = bound.unwrap_err();
    assert!(error.reason() == "capability_missing" && error.to_string().contains("CAP_NET_RAW"), "{error}");
}
