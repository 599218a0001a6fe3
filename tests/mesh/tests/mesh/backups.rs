//! A cluster that lost all of its gateways is brought back from a backup.

use causeway_test_mesh::{Mesh, SOON, Service, get, wait_until};
use std::fs;
use std::time::Duration;

/// How long a sidecar may take to find a gateway that is another one than those it knew: 6 s, and more on a machine that is busy.
const REATTACH: Duration = Duration::from_secs(10);

#[test]
fn a_cluster_is_restored_from_its_backup_and_its_peers_go_on() {
    let mesh = Mesh::new("restore");
    let mut iad = mesh.cluster("iad").gateways(3).start();
    let phx = mesh.cluster("phx").start();
    mesh.link(&iad, &phx);
    mesh.wait_voters("iad", 3);
    let (orders, payments) = (Service::http("orders"), Service::http("payments"));
    let web = mesh.sidecar(&iad, "web").serve("orders.shop:80", orders.addr());
    let web = web.serve("late.shop:80", orders.addr()).listen("payments.shop:80").start();
    let pay =
        mesh.sidecar(&phx, "pay").serve("payments.shop:80", payments.addr()).listen("orders.shop:80").start();
    for (service, from, at) in [("payments.shop", "phx", "iad"), ("orders.shop", "iad", "phx")] {
        mesh.ok(&["export", service, "--context", from]);
        mesh.wait_offer(at, service, from, 1);
    }
    let token = mesh.ok(&["token", "create", "--account", "later", "--context", "iad"]);
    let revision = || mesh.json(&["status", "--context", "iad"])["registry"]["revision"].as_u64().unwrap();
    let names = |of: &[&str], key: &str| -> Vec<String> {
        let all = mesh.json(&[of, &["--context", "iad"]].concat());
        let rows = all.as_array().or_else(|| all["services"].as_array()).unwrap();
        rows.iter().map(|row| row[key].as_str().unwrap().to_owned()).collect()
    };
    let kept = || {
        (names(&["services"], "name"), names(&["token", "list"], "id"), names(&["link", "list"], "cluster"))
    };

    let (file, seal) = (mesh.path("iad.backup"), mesh.path("kept-seal.key"));
    mesh.ok(&["backup", "-o", file.to_str().unwrap(), "--context", "iad"]);
    fs::copy(iad.gateways[1].data_dir.join("seal.key"), &seal).unwrap();
    let before = kept();
    // what happens after the backup is lost, and phx sees it: newer revisions than the backup has of exports and of the cluster's facts
    mesh.ok(&["unexport", "orders.shop", "--context", "iad"]);
    mesh.ok(&["export", "late.shop", "--context", "iad"]);
    mesh.ok(&["link", "pause", "phx", "--context", "iad"]);
    mesh.ok(&["link", "resume", "phx", "--context", "iad"]);
    let offered = |service: &str| {
        let page = mesh.json(&["services", service, "--context", "phx"]);
        let offers = page["services"][0]["offers"].as_array().cloned().unwrap_or_default();
        offers.iter().any(|offer| offer["cluster"] == "iad")
    };
    mesh.wait_offer("phx", "late.shop", "iad", 1);
    wait_until(SOON, "phx sees the end of the offer", || !offered("orders.shop"));
    let was = revision();
    let ip = iad.gateways[0].ip;
    for gateway in &mut iad.gateways {
        gateway.process.kill();
        fs::remove_dir_all(&gateway.data_dir).unwrap();
    }
    let wrong = mesh.path("wrong.key");
    fs::write(&wrong, format!("{}\n", "ab".repeat(32))).unwrap();
    let data_dir = mesh.path("refused");
    let [backup, wrong, data_dir] = [&file, &wrong, &data_dir].map(|path| path.to_str().unwrap());
    mesh.run(&["restore", backup, "--data-dir", data_dir, "--seal-key-file", wrong])
        .refused(&["wrong-seal-key", wrong]);

    iad.restore_at(ip, &file, &seal);
    assert!(revision() > was, "{} is not after {was}", revision());
    let all = mesh.wait_voters("iad", 1);
    assert_eq!(all.len(), 1, "{all:?}");
    wait_until(SOON, "services, tokens and links are there again", || kept() == before);
    for (at, to) in [("iad", "phx"), ("phx", "iad")] {
        wait_until(SOON, &format!("the link of {at} to {to} is up"), || {
            mesh.json(&["link", "show", to, "--context", at])["state"] == "up"
        });
    }
    let took = wait_until(REATTACH, "the sidecar is attached again", || {
        !mesh.json(&["workloads", "--context", "iad"]).as_array().unwrap().is_empty()
    });
    println!("attached again {took:?} after the link was up");
    mesh.wait_offer("phx", "orders.shop", "iad", 1);
    mesh.wait_offer("iad", "payments.shop", "phx", 1);
    wait_until(SOON, "phx has the exports of the backup", || !offered("late.shop"));
    for (addr, text) in [(web.addr("payments.shop:80"), "payments"), (pay.addr("orders.shop:80"), "orders")] {
        wait_until(SOON, "calls work again", || get(addr, "/").is_ok_and(|answer| answer.text() == text));
    }
    // a token of before, and more gateways
    mesh.sidecar(&iad, "later").token(&token).listen("payments.shop:80").start();
    mesh.ok(&["export", "orders.shop", "--to", "phx", "--context", "iad"]);
}
