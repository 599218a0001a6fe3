//! Tokens that must not work: each is refused with what is wrong and what to do.

use causeway_model::GatewayRole;
use causeway_test_mesh::{Cluster, Mesh, Ran, Service, loopback, wait_until};
use causeway_test_mesh::{SOON, Stolen};
use causeway_wire::token::{JoinFor, JoinToken};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn token(mesh: &Mesh, flags: &[&str]) -> String {
    let args: Vec<&str> = ["token", "create"].iter().chain(flags).copied().collect();
    mesh.ok(&args)
}

fn id(token: &str) -> String {
    token.parse::<JoinToken>().unwrap().core.id_text()
}

/// Runs a sidecar that is expected to end by itself.
fn sidecar(mesh: &Mesh, token: &str, flags: &[&str]) -> Ran {
    let overlay = format!("{}:0", loopback());
    let args: Vec<&str> =
        ["sidecar", "--token", token, "--overlay", &overlay].iter().chain(flags).copied().collect();
    mesh.run(&args)
}

const LISTEN: [&str; 2] = ["--listen", "127.0.0.1:0=orders.shop:80"];

#[test]
fn a_sidecar_is_told_what_is_wrong_with_its_token() {
    let mesh = Mesh::new("tokens");
    let iad = mesh.cluster("iad").start();
    let fra = mesh.cluster("fra").start();
    let at = |flags: &[&str]| token(&mesh, &[flags, &["--context", "iad"]].concat());

    let good = at(&["--service", "payments.shop:80"]);
    sidecar(&mesh, "nonsense", &LISTEN).refused(&["token"]);
    sidecar(&mesh, &good[..good.len() - 9], &LISTEN).refused(&["token", "copy"]);
    let mut damaged = good.clone().into_bytes();
    let middle = damaged.len() / 2;
    damaged[middle] = if damaged[middle] == b'A' { b'B' } else { b'A' };
    sidecar(&mesh, &String::from_utf8(damaged).unwrap(), &LISTEN).refused(&["token"]);

    // right in form, wrong in secret
    let mut forged: JoinToken = good.parse().unwrap();
    forged.core.secret[0] ^= 1;
    sidecar(&mesh, &forged.to_string(), &LISTEN).refused(&[
        "token-unknown",
        &id(&good),
        "causeway token create",
    ]);
    // an id that nobody made
    let mut unknown: JoinToken = good.parse().unwrap();
    unknown.core.id[0] ^= 1;
    sidecar(&mesh, &unknown.to_string(), &LISTEN).refused(&["token-unknown"]);

    used_expired_and_revoked(&mesh, &at);
    foreign(&mesh, &iad, &fra, &good);

    let gateway = at(&["--role", "gateway"]);
    sidecar(&mesh, &gateway, &LISTEN).refused(&[&id(&gateway), "gateway", "causeway token create --service"]);
    sidecar(&mesh, &good, &["--serve", "orders.shop:80=127.0.0.1:9"]).refused(&[
        &id(&good),
        "orders.shop",
        "payments.shop",
        "causeway token create --service",
    ]);
    sidecar(&mesh, &at_link(&mesh), &LISTEN).refused(&["token"]);
    // none of this has used up the good one
    let mut web = mesh.sidecar(&iad, "web").token(&good).listen("orders.shop:80").start();
    web.process.assert_running();
}

/// A link token, which is for another purpose.
fn at_link(mesh: &Mesh) -> String {
    mesh.ok(&["link", "invite", "--context", "iad"])
}

fn used_expired_and_revoked(mesh: &Mesh, at: &impl Fn(&[&str]) -> String) {
    let short = at(&["--account", "short", "--ttl", "1s"]);
    let expires = short.parse::<JoinToken>().unwrap().core.expires_at;
    wait_until(SOON, "the token expires", || UNIX_EPOCH + Duration::from_secs(expires) <= SystemTime::now());
    sidecar(mesh, &short, &LISTEN).refused(&[&id(&short), "expired", "causeway token create"]);
    // its holder says that it still lives, and the gateway knows better
    let mut stretched: JoinToken = short.parse().unwrap();
    stretched.core.expires_at += 3600;
    sidecar(mesh, &stretched.to_string(), &LISTEN).refused(&["token-expired", &id(&short)]);

    let once = at(&["--account", "once", "--uses", "1"]);
    let state = mesh.path("once-state");
    let first = ["--state-dir", state.to_str().unwrap(), "--listen", "127.0.0.1:0=orders.shop:80"];
    let args: Vec<String> = ["sidecar", "--token", &once, "--overlay", "127.0.0.1:0"]
        .iter()
        .chain(&first)
        .map(ToString::to_string)
        .collect();
    let holder = mesh.process("once", &args);
    holder.wait_log("attached to the cluster");
    sidecar(mesh, &once, &LISTEN).refused(&["token-used-up", &id(&once), "more uses"]);

    let revoked = at(&["--account", "revoked"]);
    mesh.ok(&["token", "revoke", &id(&revoked), "--context", "iad"]);
    sidecar(mesh, &revoked, &LISTEN).refused(&["token-revoked", &id(&revoked)]);
    let list = mesh.json(&["token", "list", "--context", "iad"]);
    let state = |token: &str| {
        let found = list.as_array().unwrap().iter().find(|row| row["id"] == id(token));
        found.unwrap_or_else(|| panic!("{token} in {list}"))["state"].as_str().unwrap().to_owned()
    };
    assert_eq!((state(&once), state(&revoked)), ("used-up".into(), "revoked".into()));
}

fn foreign(mesh: &Mesh, iad: &Cluster, fra: &Cluster, good: &str) {
    // a token of fra that leads to iad's gateway
    let mut foreign: JoinToken = token(mesh, &["--account", "x", "--context", "fra"]).parse().unwrap();
    let addr = iad.gateways[0].overlay();
    foreign.core.gateways = vec![addr.into()];
    sidecar(mesh, &foreign.to_string(), &LISTEN).refused(&[
        &id(&foreign.to_string()),
        &addr.to_string(),
        "of another cluster",
        "causeway token create",
    ]);
    // a state directory of iad with a token of fra
    let mut web = mesh.sidecar(iad, "moved").listen("orders.shop:80").start();
    web.process.kill();
    let other = token(mesh, &["--account", "x", "--context", "fra"]);
    let flags = [&["--state-dir", web.state_dir.to_str().unwrap()][..], &LISTEN].concat();
    sidecar(mesh, &other, &flags).refused(&["iad", "fra", "--state-dir"]);
    // a token of iad that leads to fra's gateway, and calls it by fra's id
    let mut crossed: JoinToken = good.parse().unwrap();
    let fra_facts = Stolen::from_gateway(&fra.gateways[0].data_dir).cluster;
    crossed.core.gateways = vec![fra.gateways[0].overlay().into()];
    crossed.core.cluster_id = fra_facts.id;
    sidecar(mesh, &crossed.to_string(), &LISTEN).refused(&["root certificate"]);
}

#[test]
fn a_gateway_is_told_what_is_wrong_with_its_token() {
    let mesh = Mesh::new("gateway-tokens");
    let iad = mesh.cluster("iad").start();
    let join = |name: &str, token: &str| {
        let mut args = mesh.gateway_args("iad", loopback());
        let data = mesh.path(&format!("{name}-data"));
        let place = args.iter().position(|arg| arg == "--data-dir").unwrap();
        args[place + 1] = data.display().to_string();
        args.extend(["--join".to_owned(), token.to_owned()]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        mesh.run(&args)
    };
    let workload = token(&mesh, &["--service", "payments.shop:80", "--context", "iad"]);
    join("workload", &workload).refused(&["workload"]);
    let forwarder = token(&mesh, &["--role", "forwarder", "--context", "iad"]);
    join("forwarder", &forwarder).refused(&["forwarder", "gateway"]);
    // its holder says that it is for a gateway, and the cluster knows better
    let mut raised: JoinToken = forwarder.parse().unwrap();
    raised.join = JoinFor::Gateway(GatewayRole::Gateway);
    join("raised", &raised.to_string()).refused(&["token-wrong-kind", "forwarder", "gateway"]);
    let revoked = token(&mesh, &["--role", "gateway", "--context", "iad"]);
    mesh.ok(&["token", "revoke", &id(&revoked), "--context", "iad"]);
    join("revoked", &revoked).refused(&["token-revoked", &id(&revoked)]);
    let mut forged: JoinToken = token(&mesh, &["--role", "gateway", "--context", "iad"]).parse().unwrap();
    forged.core.secret[31] ^= 1;
    join("forged", &forged.to_string()).refused(&["token-unknown"]);
    let gateways = mesh.json(&["gateways", "--context", "iad"]);
    assert_eq!(gateways.as_array().unwrap().len(), iad.gateways.len(), "{gateways}");
}

#[test]
fn a_registration_that_does_not_fit_is_refused_with_the_ports() {
    let mesh = Mesh::new("ports");
    let iad = mesh.cluster("iad").start();
    let service = Service::http("payments");
    let _first = mesh.sidecar(&iad, "first").serve("payments.shop:80", service.addr()).start();
    let token = token(&mesh, &["--service", "payments.shop", "--context", "iad"]);
    let upstream = format!("payments.shop:81={}", service.addr());
    sidecar(&mesh, &token, &["--serve", &upstream]).refused(&[
        "ports-differ",
        "80/tcp",
        "81/tcp",
        "payments.shop",
    ]);
    mesh.wait_offer("iad", "payments.shop", "iad", 1);
}
