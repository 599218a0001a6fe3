//! The DNS server, which answers before the sidecar is a member of its cluster: names outside the mesh at once, the mesh's as soon as
//! there is somebody to ask.

use super::data::DataThread;
use crate::config::CaptureSpec;
use crate::names::Questions;
use crate::turn::Turn;
use causeway_dns::{DnsMetrics, DnsServer, Sockets};
use causeway_runtime::{Metrics, Tasks};
use std::io;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Starts it on the data thread.
///
/// # Errors
/// Its settings cannot work.
pub(super) fn start(
    sockets: Sockets,
    spec: &CaptureSpec,
    questions: Questions,
    (data, tasks, turn): (&DataThread, &Tasks, &Turn),
    all: &Metrics,
) -> anyhow::Result<()> {
    let metrics = DnsMetrics::default();
    all.registry(|registry| metrics.register(registry));
    let server = DnsServer::from_sockets(sockets, &spec.dns(), Arc::new(questions), metrics)?;
    let (turn, end) = (turn.clone(), tasks.token());
    tasks.spawn_on(data.handle(), "dns", async move {
        match turn.mine(&end).await {
            true => in_turn(server, &turn, &end).await,
            false => Ok(()),
        }
    });
    Ok(())
}

/// Answers while it is this process' turn: with `--capture vip`, what one that is about to end brings into use nobody would listen on.
async fn in_turn(server: DnsServer, turn: &Turn, end: &CancellationToken) -> io::Result<()> {
    let stop = end.child_token();
    let mut serving = std::pin::pin!(server.serve(stop.clone()));
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = turn.over() => {
            stop.cancel();
            serving.await
        }
    };
    ended.map_err(|error| io::Error::other(error.to_string()))
}
