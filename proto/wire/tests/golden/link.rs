//! `causeway-link/1`.

use crate::messages::Examples;
use crate::nouns::*;
use causeway_model::{Epoch, NodeId, Revision, ServiceHandle, WorkloadId};
use causeway_wire::link::*;

pub(crate) fn messages() -> Examples<LinkMessage> {
    let handle = ServiceHandle(0x1122_3344_5566_7788);
    let instances = vec![WorkloadId(9), WorkloadId(u64::MAX)];
    Examples::of("link")
        .with("pair", Pair { token: [1; 8], proof: [2; 32], introduction: introduction() })
        .with("paired", Paired { proof: [3; 32], introduction: introduction(), key: [4; 32] })
        .with("refused", refusal())
        .with("hello", hello(None))
        .with("hello-resuming", hello(Some((Epoch(7), Revision(300)))))
        .with(
            "facts",
            Facts { revision: Revision(9), bundle: bundle("iad.mesh"), gateways: gateways(), paused: true },
        )
        .with("exports-delta", exports(None))
        .with("exports-snapshot", exports(Some(SnapshotPart { index: 1, last: true })))
        .with(
            "digest",
            ExportsDigest { epoch: Epoch(7), revision: Revision(300), count: 2, digest: u64::MAX },
        )
        .with("send-snapshot", SendSnapshot {})
        .with("have-exports", HaveExports { epoch: Epoch(3), revision: Revision(300) })
        .with("use-services", UseServices { handles: vec![handle] })
        .with("endpoints", Endpoints { handle, endpoints: endpoints() })
        .with("watch-instances", WatchPeerInstances { instances: instances.clone() })
        .with("instances-gone", PeerInstancesGone { instances })
        .with("unlink", Unlink {})
        .with("facts-taken", FactsTaken { revision: Revision(300) })
        .with("heartbeat", heartbeat())
        .with("pair-reports", pair_reports())
        .with("routes", routes())
}

pub(crate) fn introduction() -> Introduction {
    Introduction { cluster: facts("iad", 1), bundle: bundle("iad.mesh"), gateways: gateways() }
}

fn heartbeat() -> Heartbeat {
    Heartbeat { seq: 7, unix_ms: 1_800_000_000_123, heard: 9, received: 8, heard_ago_ms: 480, hearing: 0 }
}

pub(crate) fn pair_reports() -> PairReports {
    let [iad, phx] = [(1, 2), (2, u64::MAX)]
        .map(|(cluster, node)| PairEnd { cluster: cluster_id(cluster), node: NodeId(node) });
    let said = PairReport {
        from: iad,
        to: phx,
        unix_ms: 1_800_000_000_123,
        heard_ago_ms: 2_100,
        said_ago_ms: 80,
        hearing: 2,
    };
    PairReports { reports: vec![said, PairReport { from: phx, to: iad, hearing: 0, ..said }] }
}

fn routes() -> Routes {
    let path =
        |clusters: &[u32]| TransitPath { clusters: clusters.iter().map(|&id| cluster_id(id)).collect() };
    Routes { transit: true, paths: vec![path(&[1, 3]), path(&[1, 3, 2, 0x0a_0b0c])] }
}

fn hello(have: Option<(Epoch, Revision)>) -> LinkHello {
    LinkHello {
        version: version(),
        cluster: facts("iad", 1),
        node: NodeId(2),
        unix_time: 1_800_000_000,
        have,
    }
}

fn exports(snapshot: Option<SnapshotPart>) -> Exports {
    Exports {
        epoch: Epoch(7),
        from: Revision(290),
        to: Revision(300),
        snapshot,
        upserts: vec![export()],
        removed: vec![ServiceHandle(1), ServiceHandle(u64::MAX)],
    }
}
