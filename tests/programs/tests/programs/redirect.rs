//! `--capture redirect`: the application's resolver is the world's, and everything it sends is led to the sidecar by rules.

use crate::accounts::{Account, SIDECAR};
use crate::capture::Capture;
use crate::mesh::Clusters;
use crate::plain::Family;
use crate::servers::Servers;
use crate::{calls, names, network};

#[test]
fn programs_reach_services_of_another_region() {
    let Some(network) = network::or_skip("redirect", &["nft"]) else { return };
    let clusters = Clusters::start("programs-redirect", network);
    let servers = Servers::start(&clusters, "redirect");
    let _server = clusters.sidecar("server", Account::User(SIDECAR), &servers.flags());
    clusters.export(&servers.services());

    let capture = Capture::of(&clusters, "client");
    capture.install(&format!("--capture redirect --uid {SIDECAR} --unprivileged-ports"));
    let client = clusters.sidecar("client", Account::Raw(SIDECAR), &["--capture redirect".to_owned()]);
    names::all(&clusters, "redirect");
    for family in Family::BOTH {
        calls::all(&clusters, &servers, family);
    }
    let record =
        client.wait_access("a connection to the web service", |record| record["dst.service"] == "web.shop");
    println!("{record}");
    drop(client);
    capture.remove();
}
