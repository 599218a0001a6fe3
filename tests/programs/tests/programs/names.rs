//! What `dig` is told, by whatever resolver the host names.

use crate::accounts::has;
use crate::mesh::Clusters;
use crate::network::{PLAIN, WORLD, WORLD_V6};
use crate::plain::application;
use std::time::Instant;

/// Asks for everything that there is.
#[track_caller]
pub(crate) fn all(clusters: &Clusters, test: &str) {
    if !has("dig", &format!("programs::{test}::Dig")) {
        return;
    }
    let began = Instant::now();
    let dig = |question: &str| application(clusters, &format!("dig +tries=1 {question}")).ok();
    let v4 = dig("+short A web.shop.mesh");
    assert!(v4.starts_with("240."), "{v4:?}");
    let v6 = dig("+short AAAA web.shop.mesh");
    assert!(v6.starts_with("fd9c:43a6:77c1:"), "{v6:?}");
    for same in ["+tcp web.shop.mesh", "+noedns WEB.Shop.Mesh", "web.shop.svc.clusterset.local"] {
        let said = dig(&format!("+short {same}"));
        assert_eq!(said, v4, "{same}");
    }
    let pinned = dig("+short web.shop.at.phx.mesh");
    assert!(pinned.starts_with("240.") && pinned != v4, "{pinned}");
    let service = dig("+short SRV _80._tcp.web.shop.mesh");
    assert!(service.contains(" 80 "), "{service}");
    let nobody = dig("nobody.shop.mesh");
    assert!(nobody.contains("status: NXDOMAIN") && nobody.contains("SOA"), "{nobody}");
    let foreign = dig("web.shop.at.iad.mesh");
    assert!(foreign.contains("status: NXDOMAIN"), "a service of another cluster only: {foreign}");
    // what is not the mesh's is asked for upstream
    assert_eq!(dig(&format!("+short A {PLAIN}")), WORLD.to_string());
    assert_eq!(dig(&format!("+short AAAA {PLAIN}")), WORLD_V6.to_string());
    assert!(dig("other.example").contains("status: NXDOMAIN"));
    println!("dig in {:.2?}: {v4}, {v6}, {service}", began.elapsed());
}
