//! Heartbeats and reports as they travel, and as the federation crate takes them.

use causeway_federation::path::{self, GatewayId, Hearing};
use causeway_wire::link::{Heartbeat, PairEnd, PairReport};

pub(super) fn heartbeat(heard: &Heartbeat) -> path::Heartbeat {
    let Heartbeat { seq, unix_ms, heard, received, heard_ago_ms, hearing } = *heard;
    path::Heartbeat { seq, unix_ms, heard, received, heard_ago_ms, hearing: Hearing::from(hearing) }
}

pub(super) fn told(heartbeat: &path::Heartbeat) -> Heartbeat {
    let path::Heartbeat { seq, unix_ms, heard, received, heard_ago_ms, hearing } = *heartbeat;
    Heartbeat { seq, unix_ms, heard, received, heard_ago_ms, hearing: hearing.into() }
}

pub(super) fn report(heard: &PairReport) -> path::PairReport {
    let gateway = |end: PairEnd| GatewayId { cluster: end.cluster, node: end.node };
    path::PairReport {
        from: gateway(heard.from),
        to: gateway(heard.to),
        unix_ms: heard.unix_ms,
        heard_ago_ms: heard.heard_ago_ms,
        said_ago_ms: heard.said_ago_ms,
        hearing: Hearing::from(heard.hearing),
    }
}

pub(super) fn passed_on(report: &path::PairReport) -> PairReport {
    let end = |gateway: GatewayId| PairEnd { cluster: gateway.cluster, node: gateway.node };
    PairReport {
        from: end(report.from),
        to: end(report.to),
        unix_ms: report.unix_ms,
        heard_ago_ms: report.heard_ago_ms,
        said_ago_ms: report.said_ago_ms,
        hearing: report.hearing.into(),
    }
}
