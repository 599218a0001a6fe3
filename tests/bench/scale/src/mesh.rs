//! A real gateway with as many links, and a real sidecar at it that uses a few of the services.

use crate::args::Args;
use crate::figures::Figures;
use crate::imports::{COLD_SYNC_S, SERVICE_BYTES};
use crate::peer::{Counts, Peer};
use crate::{process, services};
use causeway_test_chaos::{Admin, Answer};
use causeway_test_mesh::{Cluster, Mesh, wait_until};
use causeway_wire::token::LinkToken;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// The services that the sidecar uses.
const USED: u64 = 10;
/// The most memory that it may take, in MB.
const SIDECAR_MB: f64 = 24.0;
/// From how many imports on the resident memory of a gateway is about imports: below, it is about connections.
const MANY: f64 = 200_000.0;
/// How long memory and CPU are left to settle, and are watched.
const QUIET: Duration = Duration::from_secs(5);

/// Measures with each number of gateways that tell.
pub(crate) fn run(args: &Args, figures: &mut Figures) {
    for &tellers in &args.tellers {
        one(args, tellers, figures);
    }
}

fn one(args: &Args, tellers: u64, figures: &mut Figures) {
    let (mesh, runtime) = (Mesh::new("scale-gateway"), Runtime::new().unwrap());
    let cluster = mesh.cluster("iad").flag("--log", "warn").start();
    let admin = Admin::of("iad", &mesh.path("contexts/iad.toml"));
    let pid = cluster.gateways[0].process.pid();
    let called = if args.spread > 0 { format!(" within {} s", args.spread) } else { String::new() };
    let of = format!("{} x {}, told by {tellers}{called}", args.clusters, args.services);
    let count = f64::from(args.clusters) * args.services as f64;
    let counts = Arc::new(Counts::default());
    let peers = link(args, tellers, &runtime, &cluster, &admin, &counts);
    std::thread::sleep(QUIET);

    let (resident, worked, begun) = (process::resident(pid), process::worked(pid), Instant::now());
    let gateway = cluster.gateways[0].overlay();
    let apart = Duration::from_secs(args.spread) / args.clusters;
    for (peer, turn) in peers.iter().zip(0..) {
        for node in 1..=tellers {
            let speaking = peer.clone().speak(node, gateway);
            runtime.spawn(async move {
                tokio::time::sleep(apart * turn).await;
                speaking.await;
            });
        }
    }
    wait_until(Duration::from_secs(300), "everything is imported", || imports(&admin) as f64 >= count);
    let synced = begun.elapsed().as_secs_f64();
    let busy = process::worked(pid).saturating_sub(worked).as_secs_f64();
    let settled = settle(&counts, u64::from(args.clusters) * tellers);
    let worked = process::worked(pid);
    std::thread::sleep(QUIET);
    let rest = (process::worked(pid) - worked).as_secs_f64() / QUIET.as_secs_f64();
    assert!((imports(&admin) as f64 - count).abs() < 0.5, "imports come and go");
    let each = (process::resident(pid) - resident) / count;
    figures.hold(format!("{of}: cold sync, from the first call"), synced, "s", COLD_SYNC_S);
    figures.note(format!("{of}: CPU time of the gateway meanwhile"), busy, "s");
    figures.note(format!("{of}: until every gateway is heard out"), (settled - begun).as_secs_f64(), "s");
    figures.note(format!("{of}: link connections lost until then"), counts.lost.load(Relaxed) as f64, "");
    figures.note(format!("{of}: snapshots asked for"), counts.snapshots.load(Relaxed) as f64, "");
    figures.note(format!("{of}: packets that found its queue full"), queue_full(&admin), "");
    let what = format!("{of}: resident for each service");
    if count >= MANY {
        figures.hold(what, each, "bytes", SERVICE_BYTES)
    } else {
        figures.note(what, each, "bytes")
    }
    figures.note(format!("{of}: gateway, resident"), process::resident(pid) / 1e6, "MB");
    figures.note(format!("{of}: gateway at rest, of a core"), rest * 1e2, "%");
    sidecar(args, (&mesh, &cluster), &counts, &of, figures);
}

/// The played clusters, each with a link.
fn link(
    args: &Args,
    tellers: u64,
    runtime: &Runtime,
    cluster: &Cluster,
    admin: &Admin,
    counts: &Arc<Counts>,
) -> Vec<Arc<Peer>> {
    let gateway = cluster.gateways[0].overlay();
    let one = |number| {
        let made = admin.post("/v1/links/invite", &json!({})).done();
        let token: LinkToken = made["token"].as_str().expect("a token").parse().expect("a link token");
        let linking = Peer::link(number, args.services, tellers, (gateway, &token), counts.clone());
        Arc::new(runtime.block_on(linking))
    };
    (0..args.clusters).map(one).collect()
}

/// Waits until all connections stand and none is lost for a while, and returns since when that is so.
fn settle(counts: &Counts, connections: u64) -> Instant {
    let mut since = (Instant::now(), u64::MAX);
    wait_until(Duration::from_secs(300), "every connection stands", || {
        let lost = counts.lost.load(Relaxed);
        if counts.standing.load(Relaxed) < connections || lost != since.1 {
            since = (Instant::now(), lost);
        }
        since.0.elapsed() > QUIET
    });
    since.0
}

fn queue_full(admin: &Admin) -> f64 {
    admin.get("/v1/status").done()["packets"]["dropped"]["queue-full"].as_f64().unwrap_or(0.0)
}

fn imports(admin: &Admin) -> u64 {
    match admin.get("/v1/status") {
        Answer::Done(status) => status["imports"].as_u64().unwrap_or(0),
        // a gateway that is busy with imports may be slow to answer
        _ => 0,
    }
}

/// A sidecar with endpoints of every service that it uses.
fn sidecar(
    args: &Args,
    (mesh, cluster): (&Mesh, &Cluster),
    counts: &Counts,
    of: &str,
    figures: &mut Figures,
) {
    let mut sidecar = mesh.sidecar(cluster, "web").flag("--log", "warn");
    for number in 0..USED {
        sidecar = sidecar.listen(&format!("{}:80", services::name(0, number)));
    }
    let sidecar = sidecar.start();
    let most = USED * u64::from(services::SHARED.min(args.clusters));
    wait_until(Duration::from_secs(60), "endpoints are told", || counts.told.load(Relaxed) >= most);
    std::thread::sleep(QUIET);
    let resident = process::resident(sidecar.process.pid()) / 1e6;
    figures.hold(format!("{of}: a sidecar that uses {USED} of them"), resident, "MB", SIDECAR_MB);
    figures.note(
        format!("{of}: services of which endpoints were told"),
        counts.told.load(Relaxed) as f64,
        "",
    );
}
