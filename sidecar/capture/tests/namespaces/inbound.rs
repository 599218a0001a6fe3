//! Plain traffic from other hosts to served ports.

use crate::programs::{Standing, ask, ask_udp, serve, serve_udp};
use crate::{SIDECAR, config, hosts};
use causeway_capture::{CaptureMode, CaptureOptions, Inbound, install, remove};
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, UdpSocket};

fn options(inbound: Inbound) -> CaptureOptions {
    CaptureOptions {
        uid: vec![SIDECAR.to_string()],
        inbound: Some(inbound),
        served_port: vec!["8080".into(), "9000/udp".into(), "9100/udp".into()],
        ..CaptureOptions::default()
    }
}

#[test]
fn plain_traffic_is_refused_if_asked_for_and_passed_otherwise() {
    let Some(hosts) = hosts("inbound") else { return };
    for port in [8080, 8081] {
        // takes IPv4, too
        serve(&format!("[::]:{port}"), "application");
    }
    serve_udp("[::]:9000", "application");
    hosts.at_peer(|| serve_udp("10.77.0.2:9200", "peer"));
    let listener = TcpListener::bind("10.77.0.1:8082").unwrap();
    let mut standing =
        Standing::new(&listener, || hosts.at_peer(|| TcpStream::connect("10.77.0.1:8082").unwrap()));
    let mut refuse = options(Inbound::Refuse);
    refuse.served_port.push("8082".into());

    install(&config(CaptureMode::Redirect, refuse)).unwrap();
    for addr in ["10.77.0.1", "[fd77::1]"] {
        let served = format!("{addr}:8080");
        let error = hosts.at_peer(|| ask(&served)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{served}");
        let served = format!("{addr}:9000");
        let error = hosts.at_peer(|| ask_udp(&served)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{served}");
        let other = format!("{addr}:8081");
        assert_eq!(hosts.at_peer(|| ask(&other)).unwrap(), "application");
        // what the sidecar delivers comes from this host
        assert_eq!(ask(&format!("{addr}:8080")).unwrap(), "application");
        assert_eq!(ask_udp(&format!("{addr}:9000")).unwrap(), "application");
    }
    assert_eq!(ask("127.0.0.1:8080").unwrap(), "application");
    standing.works();
    // an answer to a question of the workload's own
    let socket = UdpSocket::bind("10.77.0.1:9100").unwrap();
    socket.set_read_timeout(Some(crate::programs::DEADLINE)).unwrap();
    socket.send_to(b"ping", "10.77.0.2:9200").unwrap();
    assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 4);

    install(&config(CaptureMode::Redirect, options(Inbound::Pass))).unwrap();
    assert_eq!(hosts.at_peer(|| ask("10.77.0.1:8080")).unwrap(), "application");
    assert_eq!(hosts.at_peer(|| ask_udp("10.77.0.1:9000")).unwrap(), "application");
    remove().unwrap();
}
