//! Directories that belong to somebody else, cannot be written, or are damaged.

use causeway_test_mesh::{Mesh, Ran, Service, skip};
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn run(mesh: &Mesh, args: &[String]) -> Ran {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    mesh.run(&args)
}

#[test]
fn a_gateway_refuses_a_data_directory_that_is_not_its_own_or_not_whole() {
    let mesh = Mesh::new("data-dir");
    let mut iad = mesh.cluster("iad").start();
    let gateway = &mut iad.gateways[0];
    let data = gateway.data_dir.clone();
    let shown = data.display().to_string();
    let mut args = mesh.gateway_args("iad", gateway.ip);
    let place = args.iter().position(|arg| arg == "--data-dir").unwrap();
    args[place + 1].clone_from(&shown);
    let other_ip = |args: &[String]| -> Vec<String> {
        let ip = causeway_test_mesh::loopback().to_string();
        args.iter().map(|arg| arg.replace(&gateway.ip.to_string(), &ip)).collect()
    };

    // in use
    run(&mesh, &other_ip(&args)).refused(&[&shown, &gateway.process.pid().to_string(), "stop that process"]);
    gateway.process.assert_running();
    gateway.process.kill();

    // of another cluster
    let mut phx = args.clone();
    let place = phx.iter().position(|arg| arg == "--cluster").unwrap();
    phx[place + 1] = "phx".to_owned();
    run(&mesh, &phx).refused(&[&shown, "iad", "phx", "--data-dir"]);
    let mut domain = args.clone();
    domain.extend(["--trust-domain".to_owned(), "other.example".to_owned()]);
    run(&mesh, &domain).refused(&[&shown, "other.example"]);
    let mut role = args.clone();
    role.extend(["--role".to_owned(), "forwarder".to_owned()]);
    run(&mesh, &role).refused(&["forwarder", "gateway"]);

    // damaged: each file is broken in turn and put back
    for (name, content) in [
        ("node.json", None),
        ("node.json", Some("{\"cluster\":")),
        ("identity.pem", None),
        ("identity.pem", Some("-----BEGIN CERTIFICATE-----\nMIIB")),
        ("seal.key", None),
        ("seal.key", Some("00")),
    ] {
        let path = data.join(name);
        let whole = fs::read(&path).unwrap();
        match content {
            None => fs::remove_file(&path).unwrap(),
            Some(text) => fs::write(&path, text).unwrap(),
        }
        let said = run(&mesh, &args).refused(&[path.to_str().unwrap()]);
        assert!(said.contains("restore") || name == "seal.key", "{name}:\n{said}");
        fs::write(&path, whole).unwrap();
    }
    // a seal key of another cluster cannot open the certificate authority's key
    let whole = fs::read(data.join("seal.key")).unwrap();
    fs::write(data.join("seal.key"), "ab".repeat(32)).unwrap();
    run(&mesh, &args).refused(&["seal"]);
    fs::write(data.join("seal.key"), whole).unwrap();
    // and the directory still works
    gateway.restart();
    gateway.wait_ready();
    mesh.ok(&["token", "create", "--service", "a.b:80", "--context", "iad"]);
}

#[test]
fn a_damaged_registry_is_not_served() {
    let mesh = Mesh::new("registry-damage");
    let mut iad = mesh.cluster("iad").start();
    let gateway = &mut iad.gateways[0];
    mesh.ok(&["token", "create", "--service", "a.b:80", "--context", "iad"]);
    gateway.process.kill();
    let registry = gateway.data_dir.join("registry");
    let file = fs::read_dir(&registry)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 3]).unwrap();
    gateway.restart();
    let exit = gateway.process.wait_exit(causeway_test_mesh::SOON);
    assert!(!exit.success(), "{exit:?}");
    let log = gateway.process.log();
    assert!(
        log.contains(registry.to_str().unwrap()) && !log.contains("panicked"),
        "{}",
        gateway.process.tail()
    );
    fs::write(&file, whole).unwrap();
    gateway.restart();
    gateway.wait_ready();
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let mesh = Mesh::new("unwritable");
    // a file where the folder should be stops root, too
    let file = mesh.path("file");
    fs::write(&file, "").unwrap();
    let args = mesh.gateway_args("iad", causeway_test_mesh::loopback());
    let place = args.iter().position(|arg| arg == "--data-dir").unwrap() + 1;
    let with = |path: &std::path::Path| {
        let mut args = args.clone();
        args[place] = path.display().to_string();
        run(&mesh, &args)
    };
    with(&file).refused(&[file.to_str().unwrap()]);
    with(&file.join("below")).refused(&[file.to_str().unwrap()]);
    let state = file.display().to_string();
    mesh.run(&["sidecar", "--state-dir", &state, "--listen", "127.0.0.1:0=a.b:80"]).refused(&[&state]);

    if rustix::process::geteuid().is_root() {
        skip("damage::a_directory_that_cannot_be_written_is_named (mode 0500)", "root may write everywhere");
        return;
    }
    let folder = mesh.path("folder");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).unwrap();
    with(&folder).refused(&[folder.to_str().unwrap(), "uid"]);
    with(&folder.join("below")).refused(&[folder.to_str().unwrap(), "uid"]);
}

#[test]
fn a_sidecar_refuses_a_state_directory_that_is_in_use_or_damaged() {
    let mesh = Mesh::new("state-dir");
    let iad = mesh.cluster("iad").start();
    let service = Service::http("payments");
    let mut pay = mesh.sidecar(&iad, "pay").serve("payments.shop:80", service.addr()).start();
    let state = pay.state_dir.display().to_string();
    let serve = format!("payments.shop:80={}", service.addr());
    let again = || {
        let overlay = format!("{}:0", causeway_test_mesh::loopback());
        let args = ["--state-dir", &state, "--overlay", &overlay, "--serve", &serve];
        mesh.run(&[&["sidecar", "--no-handover"], &args[..]].concat())
    };
    again().refused(&[&state, &pay.process.pid().to_string()]);
    pay.process.assert_running();
    pay.process.kill();
    for name in ["identity.pem", "state.json"] {
        let path = pay.state_dir.join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        again().refused(&[path.to_str().unwrap()]);
        fs::write(&path, whole).unwrap();
    }
    for name in ["identity.pem", "state.json"] {
        let mode = fs::metadata(pay.state_dir.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    pay.restart();
    pay.wait_ready();
}
