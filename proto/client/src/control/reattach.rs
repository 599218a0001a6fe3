//! Attaches again when every gateway has been lost for a while.
//!
//! A sidecar that was cut off for long may hold keys that the cluster has dropped; its probes are then not answered, and no
//! control connection over the overlay can come about. A plain connection with its SVID can, and brings the keys in use.

use super::picture::Picture;
use crate::bootstrap::{Enroller, Setback};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long a sidecar is alone before it tries: gateways that only restart are back by then.
const AFTER: Duration = Duration::from_secs(15);
/// How long it waits between tries.
const AGAIN: Duration = Duration::from_secs(15);

/// Watches over being alone until `token` is cancelled.
pub(super) async fn run(picture: Arc<Picture>, mut enroller: Enroller, token: CancellationToken) {
    let mut state = picture.state.subscribe();
    loop {
        let alone_since = state.borrow_and_update().alone_since;
        let due = async {
            match alone_since {
                Some(since) => tokio::time::sleep(AFTER.saturating_sub(since.elapsed())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = token.cancelled() => return,
            // the picture has the sender, so this cannot fail
            _ = state.changed() => continue,
            () = due => {}
        }
        let jitter = AGAIN.mul_f64(rand::random::<f64>() / 2.0);
        tokio::select! {
            () = token.cancelled() => return,
            () = attach(&picture, &mut enroller) => {}
        }
        enroller.close();
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(AGAIN + jitter) => {}
        }
    }
}

async fn attach(picture: &Picture, enroller: &mut Enroller) {
    let gateways = picture.gateways.borrow().clone();
    enroller.set_hosts(&gateways);
    let began = Instant::now();
    match try_once(picture, enroller).await {
        Ok(()) => tracing::info!(took = ?began.elapsed(), "attached again after every gateway was lost"),
        Err(Setback::Retry(cause)) => tracing::warn!(cause, "no gateway can be reached"),
        Err(Setback::Final(error)) => {
            tracing::error!(%error, reason = error.reason(), "the cluster does not take this sidecar back");
        }
    }
}

async fn try_once(picture: &Picture, enroller: &mut Enroller) -> Result<(), Setback> {
    if enroller.join_if_needed().await?.is_some() {
        picture.save_identity(picture.svid.current()).await;
    }
    let (_, attached) = enroller.attach(Some(picture.workload)).await?;
    if attached.workload != picture.workload {
        // connections that live carry the old id, which cannot be changed under them
        return Err(Setback::Retry(format!(
            "the gateway gave this sidecar a new instance id, {}, in place of {}; restart it if this does not end",
            attached.workload, picture.workload
        )));
    }
    picture.learn_keys(attached.cid_keys, attached.probe_key);
    picture.learn_gateways(attached.gateways);
    Ok(())
}
