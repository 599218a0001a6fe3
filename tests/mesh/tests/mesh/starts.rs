//! Starts that must fail: each says what is wrong, where, and what to do.

use causeway_test_mesh::{Mesh, Ran, SOON, Service, loopback};
use std::fs;
use std::net::{TcpListener, UdpSocket};

fn run(mesh: &Mesh, args: &[String]) -> Ran {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    mesh.run(&args)
}

fn replaced(args: &[String], flag: &str, value: &str) -> Vec<String> {
    let mut args = args.to_vec();
    let place = args.iter().position(|arg| arg == flag).unwrap();
    args[place + 1] = value.to_owned();
    args
}

#[test]
fn every_mistake_of_a_configuration_is_named_at_once() {
    let mesh = Mesh::new("mistakes");
    let gateway = mesh.path("gateway.toml");
    let text = "cluster = \"IAD\"\nregoin = \"us-ashburn-1\"\nzone = \"AD-1\"\ndata-dir = \"d\"\ndrain = \"soon\"\n\
                listen = [\"127.0.0.1:7443\"]\n";
    fs::write(&gateway, text).unwrap();
    let path = gateway.to_str().unwrap();
    for extra in [&[][..], &["--check"]] {
        let args: Vec<&str> = ["gateway", "--config", path].iter().chain(extra).copied().collect();
        let said = mesh.run(&args).refused(&["cluster", "IAD", "regoin", "region", "drain", "soon", path]);
        assert!(said.contains(&format!("{path}:2")), "the line of the second mistake:\n{said}");
    }
    assert!(!mesh.path("d").exists());

    let sidecar = mesh.path("sidecar.toml");
    let text = "state-dir = \"s\"\nserve = [\"payments=127.0.0.1:9000\"]\nlisten = [\"8080=orders.shop:80\"]\n\
                weight = 5000\ntocken-file = \"t\"\n";
    fs::write(&sidecar, text).unwrap();
    let path = sidecar.to_str().unwrap();
    let parts =
        ["serve", "payments=127.0.0.1:9000", "listen", "8080=orders.shop:80", "weight", "tocken-file", path];
    mesh.run(&["sidecar", "--config", path]).refused(&parts);

    fs::write(&sidecar, "state-dir = [unclosed").unwrap();
    mesh.run(&["sidecar", "--config", path]).refused(&[path]);
    mesh.run(&["gateway", "--config", "/nowhere/x.toml"]).refused(&["/nowhere/x.toml"]);
    mesh.run(&["gateway"]).refused(&["--cluster", "--region", "--zone", "--data-dir", "--listen"]);
}

#[test]
fn a_port_that_is_taken_is_named_with_its_flag() {
    let mesh = Mesh::new("ports-taken");
    let ip = loopback();
    let args = mesh.gateway_args("iad", ip);
    {
        let _taken = UdpSocket::bind((ip, 7443)).unwrap();
        run(&mesh, &args).refused(&[&format!("{ip}:7443"), "--listen"]);
    }
    for (port, flag) in [(7444, "--admin"), (7445, "--telemetry")] {
        let _taken = TcpListener::bind((ip, port)).unwrap();
        run(&mesh, &args).refused(&[&format!("{ip}:{port}"), flag]);
    }
    run(&mesh, &replaced(&args, "--listen", "192.0.2.1:7443")).refused(&["192.0.2.1:7443", "--listen"]);

    // what was begun before is completed once the ports are free
    let iad = mesh.cluster("iad").start();
    let token = mesh.ok(&["token", "create", "--account", "x", "--context", "iad"]);
    let taken = TcpListener::bind((loopback(), 8080)).unwrap().local_addr().unwrap();
    let taken_listener = TcpListener::bind(taken).unwrap();
    let taken_overlay = UdpSocket::bind((loopback(), 7443)).unwrap();
    let base = |overlay: String, listen: String, telemetry: String| {
        mesh.run(&[
            "sidecar",
            "--token",
            &token,
            "--overlay",
            &overlay,
            "--listen",
            &listen,
            "--telemetry",
            &telemetry,
        ])
    };
    let (free, overlay) = (format!("{}:0", loopback()), taken_overlay.local_addr().unwrap());
    base(free.clone(), format!("{taken}=a.b:80"), free.clone()).refused(&[&taken.to_string(), "--listen"]);
    base(free.clone(), format!("{free}=a.b:80"), taken.to_string())
        .refused(&[&taken.to_string(), "--telemetry"]);
    base(overlay.to_string(), format!("{free}=a.b:80"), free.clone())
        .refused(&[&overlay.to_string(), "--overlay"]);
    drop((taken_listener, iad));
}

#[test]
fn a_sidecar_may_not_serve_what_its_identity_may_not() {
    let mesh = Mesh::new("may-not-serve");
    let iad = mesh.cluster("iad").start();
    let service = Service::http("payments");
    let mut pay = mesh.sidecar(&iad, "pay").serve("payments.shop:80", service.addr()).start();
    pay.process.kill();
    // the identity on disk is of payments.shop, and it needs no token
    let (state, overlay) = (pay.state_dir.to_str().unwrap(), format!("{}:0", pay.ip));
    let serve = format!("orders.shop:80={}", service.addr());
    let orders = || mesh.run(&["sidecar", "--state-dir", state, "--overlay", &overlay, "--serve", &serve]);
    orders().refused(&["service-unknown", "orders.shop"]);
    mesh.ok(&["token", "create", "--service", "orders.shop:80", "--context", "iad"]);
    orders().refused(&["may-not-serve", "orders.shop", "sa/payments"]);
    mesh.run(&["sidecar", "--overlay", "127.0.0.1:0", "--listen", "127.0.0.1:0=a.b:80"]).refused(&["token"]);
    let empty = mesh.path("empty");
    mesh.run(&["sidecar", "--state-dir", empty.to_str().unwrap(), "--listen", "127.0.0.1:0=a.b:80"])
        .refused(&["empty", "causeway token create"]);
    pay.restart();
    pay.wait_ready();
    assert!(pay.process.exit().is_none());
    assert_eq!(pay.process.terminate(SOON).code(), Some(0), "{}", pay.process.tail());
}
