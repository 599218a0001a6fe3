//! `causeway check` names what is wrong, in a mesh in which one thing after the other goes wrong.

use causeway_test_mesh::{Mesh, SOON, Service, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// What a check with these arguments finds, and whether it says that all is well.
fn check(mesh: &Mesh, args: &[&str]) -> (Vec<Value>, bool) {
    let ran = mesh.run(&[&["check", "-o", "json"], args].concat());
    let found: Vec<Value> = serde_json::from_str(&ran.stdout).unwrap_or_default();
    let failed = found.iter().any(|check| check["state"] == "failed");
    assert_eq!(ran.code == Some(0), !failed, "the exit code tells: {}", ran.stderr);
    (found, !failed)
}

/// Waits until a check at one of `contexts` has a finding of this name and state whose words contain `words`.
#[track_caller]
fn named(mesh: &Mesh, contexts: &[&str], (name, state): (&str, &str), words: &str) -> Value {
    let what = format!("{name} is {state} with {words:?} at {contexts:?}");
    let is = |check: &Value| {
        let said = [&check["seen"], &check["cause"]].map(|said| said.as_str().unwrap_or_default());
        check["name"] == name && check["state"] == state && said.iter().any(|said| said.contains(words))
    };
    wait_for(SOON, &what, || {
        let found = contexts.iter().flat_map(|context| check(mesh, &["--context", context]).0);
        found.into_iter().find(is)
    })
    .0
}

/// What is found in the registry's file of a data directory.
fn registry_file(mesh: &Mesh, data_dir: &Path) -> Value {
    let (found, _) = check(mesh, &["--data-dir", data_dir.to_str().unwrap()]);
    found.into_iter().find(|check| check["name"] == "registry file").unwrap()
}

#[test]
fn each_fault_is_named_by_check() {
    let mesh = Mesh::new("checks");
    let mut iad = mesh.cluster("iad").gateways(3).start();
    let phx = mesh.cluster("phx").start();
    mesh.link(&iad, &phx);
    mesh.wait_voters("iad", 3);
    let service = Service::http("orders");
    let mut web = mesh.sidecar(&iad, "web").serve("orders.shop:80", service.addr()).start();
    let _pay = mesh.sidecar(&phx, "pay").serve("orders.shop:81", service.addr()).start();
    named(&mesh, &["iad"], ("link phx", "ok"), "up");
    named(&mesh, &["iad"], ("clock", "ok"), "of the clocks of 3 other gateways");

    // definitions that contradict each other
    mesh.ok(&["link", "set", "phx", "--merge", "shop", "--context", "iad"]);
    mesh.ok(&["export", "orders.shop", "--context", "phx"]);
    let collision = named(&mesh, &["iad"], ("service definitions", "warning"), "it lacks port 80");
    assert!(collision["seen"].as_str().unwrap().contains("orders.shop of phx against iad"), "{collision}");

    // a link that is paused, and one whose peer hangs
    mesh.ok(&["link", "pause", "phx", "--context", "iad"]);
    named(&mesh, &["iad"], ("link phx", "warning"), "paused here");
    named(&mesh, &["phx"], ("link iad", "warning"), "paused by iad");
    mesh.ok(&["link", "resume", "phx", "--context", "iad"]);
    named(&mesh, &["iad"], ("link phx", "ok"), "up");
    phx.gateways[0].process.signal(Signal::STOP);
    named(&mesh, &["iad"], ("link phx", "failed"), "silent for");
    phx.gateways[0].process.signal(Signal::CONT);
    named(&mesh, &["iad"], ("link phx", "ok"), "up");

    // a sidecar that is lost: only the gateways that it was attached to know
    web.process.kill();
    let contexts: Vec<String> = iad.gateways.iter().map(|gateway| gateway.context.clone()).collect();
    let contexts: Vec<&str> = contexts.iter().map(String::as_str).collect();
    named(&mesh, &contexts, ("lost sidecars", "warning"), "orders.shop has no healthy endpoint left");

    // a gateway that hangs, and then is dead
    let leader = iad.leader("iad");
    let (at, other, last) = (contexts[leader], (leader + 1) % 3, (leader + 2) % 3);
    let name = format!("gateway {}", iad.gateways[other].node());
    iad.gateways[other].process.signal(Signal::STOP);
    named(&mesh, &[at], (&name, "failed"), "hangs (SIGSTOP");
    named(&mesh, &[at], ("registry voters", "warning"), "one more failure stops changes");
    iad.gateways[other].process.signal(Signal::CONT);
    named(&mesh, &[at], (&name, "ok"), "answers");
    let running = registry_file(&mesh, &iad.gateways[other].data_dir);
    assert!(running["state"] == "ok" && running["seen"].as_str().unwrap().contains("in use by"), "{running}");
    iad.gateways[other].process.kill();
    named(&mesh, &[at], (&name, "failed"), "it was killed");

    // its registry is looked into, and then damaged
    let data_dir = &iad.gateways[other].data_dir;
    let sound = registry_file(&mesh, data_dir);
    assert!(
        sound["state"] == "ok" && sound["seen"].as_str().unwrap().contains("of cluster iad: revision"),
        "{sound}"
    );
    let file = data_dir.join("registry").join("registry.redb");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let damaged = registry_file(&mesh, data_dir);
    let cause = damaged["cause"].as_str().unwrap();
    assert!(damaged["state"] == "failed" && cause.contains(file.to_str().unwrap()), "{damaged}");
    // the gateway refuses to start from it with the same words
    let gateway = &mut iad.gateways[other];
    gateway.restart();
    assert!(!gateway.process.wait_exit(SOON).success());
    wait_until(SOON, "the refusal is told", || gateway.process.log().contains(cause));
    assert!(gateway.process.log().contains(damaged["fix"].as_str().unwrap()), "{}", gateway.process.tail());

    // the quorum is lost
    iad.gateways[last].process.kill();
    named(&mesh, &[at], ("registry", "failed"), "no quorum: 1 of 3 voters answer");
    named(&mesh, &[at], ("registry voters", "failed"), "changes are refused");
}
