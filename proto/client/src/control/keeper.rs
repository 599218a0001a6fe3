//! Saves what was learned, a moment after it changes.

use super::picture::Picture;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long changes are gathered before they are saved.
const GATHER: Duration = Duration::from_secs(1);
/// The shortest time between two saves: services change all the time, and each save is a whole file and two flushes.
const PAUSE: Duration = Duration::from_secs(10);

/// Saves until `token` is cancelled, and then once more.
pub(super) async fn run(picture: Arc<Picture>, token: CancellationToken) {
    if picture.state_dir.is_none() {
        return token.cancelled().await;
    }
    loop {
        tokio::select! {
            () = token.cancelled() => break,
            () = picture.dirty.notified() => {}
        }
        if elapsed_or_cancelled(GATHER, &token).await {
            save(&picture).await;
            elapsed_or_cancelled(PAUSE, &token).await;
        }
    }
    save(&picture).await;
}

/// Whether `wait` went by without a cancellation.
async fn elapsed_or_cancelled(wait: Duration, token: &CancellationToken) -> bool {
    tokio::time::timeout(wait, token.cancelled()).await.is_err()
}

async fn save(picture: &Picture) {
    let Some(state) = picture.state_dir.clone() else { return };
    let known = picture.known();
    let saved = tokio::task::spawn_blocking(move || state.save_known(&known)).await;
    if let Ok(Err(error)) = saved {
        picture.metrics.save_errors.inc();
        tracing::warn!(%error, reason = error.reason(), "what was learned is not saved");
    }
}
