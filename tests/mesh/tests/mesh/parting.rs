//! Links that pause, and links whose end the other side sleeps through.

use crate::traffic::{echo, echoes, echoing, ended};
use causeway_test_mesh::{Cluster, Mesh, SOON, Service, Sidecar, wait_for, wait_until};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

/// How long connections may live over a link that is no more.
const REVOKED: Duration = Duration::from_secs(5);
/// How long what is paused may be used.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Two linked clusters whose sidecars call each other.
struct Both {
    web: Sidecar,
    pay: Sidecar,
    phx: Cluster,
    _iad: Cluster,
    _services: [Service; 2],
    // the last: the logs are in its folder
    mesh: Mesh,
}

impl Both {
    fn start(name: &str) -> Self {
        let mesh = Mesh::new(name);
        let (iad, phx) = mesh.pair(1);
        let (orders, payments) = (Service::echo(), Service::echo());
        let web = mesh
            .sidecar(&iad, "web")
            .serve("orders.shop:80", orders.addr())
            .listen("payments.shop:80")
            .start();
        let pay = mesh
            .sidecar(&phx, "pay")
            .serve("payments.shop:80", payments.addr())
            .listen("orders.shop:80")
            .start();
        mesh.ok(&["export", "payments.shop", "--context", "phx"]);
        mesh.ok(&["export", "orders.shop", "--context", "iad"]);
        let both = Self { mesh, _iad: iad, phx, web, pay, _services: [orders, payments] };
        both.wait_offers();
        both
    }

    fn wait_offers(&self) {
        self.mesh.wait_offer("iad", "payments.shop", "phx", 1);
        self.mesh.wait_offer("phx", "orders.shop", "iad", 1);
    }

    fn addrs(&self) -> [SocketAddr; 2] {
        [self.web.addr("payments.shop:80"), self.pay.addr("orders.shop:80")]
    }

    fn links(&self, at: &str) -> Vec<Value> {
        self.mesh.json(&["link", "list", "--context", at]).as_array().unwrap().clone()
    }

    fn imported(&self, at: &str) -> Vec<Value> {
        self.mesh.json(&["services", "--origin", "imported", "--context", at])["services"]
            .as_array()
            .unwrap()
            .clone()
    }
}

#[test]
fn a_paused_link_shares_nothing_and_keeps_what_stands() {
    let both = Both::start("link-pause");
    let mesh = &both.mesh;
    let open = both.addrs().map(echoing);
    // the one that pauses, and the one that is told
    for (at, to) in [("iad", "phx"), ("phx", "iad")] {
        let said = mesh.ok(&["link", "pause", to, "--context", at]);
        assert!(said.contains("paused"), "{said}");
        for (here, other) in [("iad", "phx"), ("phx", "iad")] {
            wait_until(AT_ONCE, &format!("{here} imports nothing of {other}"), || {
                both.imported(here).is_empty()
            });
            let link = wait_for(AT_ONCE, &format!("{here} shows a paused link"), || {
                both.links(here).into_iter().find(|link| link["state"] == "paused")
            });
            assert_eq!(
                (link.0["paused"] == true, link.0["peer_paused"] == true),
                (here == at, here != at),
                "{}",
                link.0
            );
            let table = mesh.ok(&["link", "list", "--context", here]);
            assert!(table.contains(other) && table.contains("paused"), "{table}");
        }
        for addr in both.addrs() {
            wait_until(AT_ONCE, "a new call finds nobody", || !echoes(addr));
        }
        open.iter().for_each(|stream| echo(stream).unwrap());
        mesh.ok(&["link", "resume", to, "--context", at]);
        both.wait_offers();
        for addr in both.addrs() {
            wait_until(SOON, "calls work again", || echoes(addr));
        }
        open.iter().for_each(|stream| echo(stream).unwrap());
    }
    for at in ["iad", "phx"] {
        assert_eq!(both.links(at)[0]["state"], "up");
    }
}

#[test]
fn a_link_that_was_removed_while_the_other_side_was_away_is_of_no_use_to_it() {
    let mut both = Both::start("link-remove-away");
    let [to_phx, _from_phx] = both.addrs().map(echoing);
    both.phx.gateways[0].process.kill();
    both.mesh.ok(&["link", "remove", "phx", "--context", "iad"]);
    let took = ended(&to_phx);
    assert!(took < REVOKED, "a connection to the cluster that is away lived for {took:?}");
    assert!(both.imported("iad").is_empty());

    both.phx.gateways[0].restart();
    both.phx.gateways[0].wait_ready();
    for addr in both.addrs() {
        assert!(!echoes(addr), "a call over a removed link");
    }
    // nobody tells it: it sees a link that does not work, and can remove it
    let links = both.links("phx");
    assert!(links.iter().all(|link| link["state"] != "up"), "{links:?}");
    both.mesh.ok(&["link", "remove", "iad", "--context", "phx"]);
    assert!(both.links("phx").is_empty() && both.imported("phx").is_empty());
}
