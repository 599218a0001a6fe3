//! `--capture vip`: the host's resolver is the sidecar, which listens on virtual addresses without any privilege.

use crate::accounts::{Account, SIDECAR};
use crate::capture::Capture;
use crate::mesh::Clusters;
use crate::plain::Family;
use crate::servers::Servers;
use crate::{calls, names, network};
use std::fs;

#[test]
fn programs_reach_services_of_another_region() {
    let Some(network) = network::or_skip("vip", &[]) else { return };
    let clusters = Clusters::start("programs-vip", network);
    let servers = Servers::start(&clusters, "vip");
    let _server = clusters.sidecar("server", Account::User(SIDECAR), &servers.flags());
    clusters.export(&servers.services());

    let capture = Capture::of(&clusters, "client");
    let resolv_conf = clusters.network.resolv_conf("client");
    capture.install(&format!(
        "--capture vip --resolv-conf {} --dns 127.0.0.1 --unprivileged-ports",
        resolv_conf.display()
    ));
    let config = clusters.mesh.path("client.toml");
    fs::write(&config, format!("capture = \"vip\"\ndns-resolv-conf = {resolv_conf:?}\n")).unwrap();
    let flags = ["--config".to_owned(), config.display().to_string()];
    let client = clusters.sidecar("client", Account::User(SIDECAR), &flags);
    names::all(&clusters, "vip");
    for family in Family::BOTH {
        calls::all(&clusters, &servers, family);
    }
    let record =
        client.wait_access("a connection to the web service", |record| record["dst.service"] == "web.shop");
    println!("{record}");
    drop(client);
    capture.remove();
}
