//! Links that must not be made, and links that are removed.

use crate::traffic::{echoes, echoing};
use causeway_test_mesh::{Mesh, SOON, Service, get, wait_until};
use causeway_wire::token::LinkToken;
use std::io::Read;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a removed link may still carry anything.
const REMOVED: Duration = Duration::from_secs(5);

#[test]
fn a_link_token_that_does_not_fit_is_refused() {
    let mesh = Mesh::new("link-tokens");
    let clusters = ["iad", "phx", "fra"].map(|name| mesh.cluster(name).start());
    let invite = |flags: &[&str]| {
        let args: Vec<&str> = ["link", "invite", "--context", "iad"].iter().chain(flags).copied().collect();
        mesh.ok(&args)
    };
    let accept = |token: &str, at: &str| mesh.run(&["link", "accept", token, "--context", at]);

    let token = invite(&[]);
    accept("nonsense", "phx").refused(&["token", "causeway link invite"]);
    accept(&token[..token.len() - 5], "phx").refused(&["token"]);
    accept(&token, "iad").refused(&["link-own-token", "iad"]);
    let join = mesh.ok(&["token", "create", "--role", "gateway", "--context", "iad"]);
    accept(&join, "phx").refused(&["token"]);

    accept(&invite(&["--for", "fra"]), "phx").refused(&["invite-for-another", "fra", "phx"]);
    let mut renamed: LinkToken = invite(&["--for", "fra"]).parse().unwrap();
    renamed.for_cluster = None;
    accept(&renamed.to_string(), "phx").refused(&["invite-for-another", "fra", "phx"]);

    let short = invite(&["--ttl", "1s"]);
    let mut stretched: LinkToken = short.parse().unwrap();
    let expires = UNIX_EPOCH + Duration::from_secs(stretched.core.expires_at);
    wait_until(SOON, "the token expires", || expires <= SystemTime::now());
    accept(&short, "phx").refused(&["invite-expired", &stretched.core.id_text(), "causeway link invite"]);
    stretched.core.expires_at += 3600;
    accept(&stretched.to_string(), "phx").refused(&["invite-expired"]);

    let mut forged: LinkToken = token.parse().unwrap();
    forged.core.secret[0] ^= 1;
    accept(&forged.to_string(), "phx").refused(&["token-refused", "causeway link invite"]);

    accept(&token, "phx").ok();
    accept(&token, "fra").refused(&["invite-used"]);
    let links = mesh.json(&["link", "list", "--context", "fra"]);
    assert_eq!(links.as_array().unwrap().len(), 0, "{links}");
    drop(clusters);
}

#[test]
fn two_clusters_with_one_id_or_trust_domain_are_not_linked() {
    let mesh = Mesh::new("link-clash");
    let _iad = mesh.cluster("iad").flag("--cluster-id", "77").flag("--trust-domain", "one.example").start();
    let _phx = mesh.cluster("phx").flag("--cluster-id", "77").start();
    let _fra = mesh.cluster("fra").flag("--trust-domain", "one.example").flag("--cluster-id", "78").start();
    let token = mesh.ok(&["link", "invite", "--context", "iad"]);
    let accept = |at: &str| mesh.run(&["link", "accept", &token, "--context", at]);
    accept("phx").refused(&["link-id-clash", "iad", "phx", "77", "--cluster-id"]);
    accept("fra").refused(&["link-trust-domain-clash", "iad", "fra", "one.example"]);
    for context in ["iad", "phx", "fra"] {
        let links = mesh.json(&["link", "list", "--context", context]);
        assert_eq!(links.as_array().unwrap().len(), 0, "{context}: {links}");
    }
}

#[test]
fn a_removed_link_carries_nothing_in_either_direction() {
    let mesh = Mesh::new("link-remove");
    let (iad, phx) = mesh.pair(1);
    let (orders, payments) = (Service::echo(), Service::echo());
    let web =
        mesh.sidecar(&iad, "web").serve("orders.shop:80", orders.addr()).listen("payments.shop:80").start();
    let pay =
        mesh.sidecar(&phx, "pay").serve("payments.shop:80", payments.addr()).listen("orders.shop:80").start();
    mesh.ok(&["export", "payments.shop", "--context", "phx"]);
    mesh.ok(&["export", "orders.shop", "--context", "iad"]);
    mesh.wait_offer("iad", "payments.shop", "phx", 1);
    mesh.wait_offer("phx", "orders.shop", "iad", 1);
    let addrs = [web.addr("payments.shop:80"), pay.addr("orders.shop:80")];
    let open = addrs.map(echoing);

    mesh.ok(&["link", "remove", "phx", "--context", "iad"]);
    let removed = Instant::now();
    for mut stream in open {
        let end = stream.read(&mut [0; 1]);
        assert!(matches!(end, Err(_) | Ok(0)), "an open stream goes on: {end:?}");
        assert!(removed.elapsed() < REMOVED, "an open stream lived for {:?}", removed.elapsed());
    }
    for addr in addrs {
        assert!(get(addr, "/").is_err(), "a new call over a removed link");
    }
    let services = mesh.json(&["services", "--context", "iad"]);
    assert!(!services.to_string().contains("payments.shop"), "{services}");
    // the other side is told, and keeps nothing of it either
    wait_until(SOON, "phx has no link", || {
        mesh.json(&["link", "list", "--context", "phx"]).as_array().unwrap().is_empty()
    });
    for (at, to) in [("iad", "phx"), ("phx", "iad")] {
        mesh.run(&["link", "show", to, "--context", at]).refused(&["link-unknown", to]);
        mesh.run(&["link", "remove", to, "--context", at]).refused(&["link-unknown", to]);
    }

    // both can begin anew
    mesh.link(&phx, &iad);
    mesh.wait_offer("iad", "payments.shop", "phx", 1);
    wait_until(SOON, "calls work over the new link", || echoes(addrs[0]));
}

#[test]
fn an_export_that_is_taken_back_ends_its_streams() {
    let mesh = Mesh::new("unexport");
    let (iad, phx) = mesh.pair(1);
    let payments = Service::echo();
    let _pay = mesh.sidecar(&phx, "pay").serve("payments.shop:80", payments.addr()).start();
    let web = mesh.sidecar(&iad, "web").listen("payments.shop:80").start();
    mesh.ok(&["export", "payments.shop", "--context", "phx"]);
    mesh.wait_offer("iad", "payments.shop", "phx", 1);
    let mut open = echoing(web.addr("payments.shop:80"));
    mesh.ok(&["unexport", "payments.shop", "--context", "phx"]);
    let began = Instant::now();
    let end = open.read(&mut [0; 1]);
    assert!(
        matches!(end, Err(_) | Ok(0)) && began.elapsed() < REMOVED,
        "{end:?} after {:?}",
        began.elapsed()
    );
    assert!(get(web.addr("payments.shop:80"), "/").is_err());
}
