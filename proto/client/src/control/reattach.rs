//! Attaches again when every gateway has been lost for a while.
//!
//! A sidecar that was cut off for long may hold keys that the cluster has dropped; its probes are then not answered, and no
//! control connection over the overlay can come about. A plain connection with its SVID can, and brings the keys in use.
//!
//! Here a sidecar joins anew, too, when its SVID was revoked and it has a token.

use super::own::Revoked;
use super::picture::{ControlState, Picture};
use crate::bootstrap::{Enroller, Setback};
use crate::error::JoinError;
use causeway_identity::KeyPair;
use causeway_runtime::Backoff;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a sidecar is alone before it tries: gateways that only restart are back by then.
const AFTER: Duration = Duration::from_secs(15);
/// How long it waits between tries.
const AGAIN: Duration = Duration::from_secs(15);

/// How long after it joined anew a sidecar does not do so again: whoever revokes it twice means it.
const CALM: Duration = Duration::from_secs(3600);
/// How often it tries to join anew where no gateway can be reached.
const TRIES: u32 = 20;
/// The shortest and the longest wait between these tries.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// Watches over being alone, and over being revoked, until `token` is cancelled.
///
/// # Errors
/// [`JoinError::Revoked`] if the SVID was revoked and there is no token that brings another.
pub(super) async fn run(
    picture: Arc<Picture>,
    mut enroller: Enroller,
    token: CancellationToken,
) -> Result<(), JoinError> {
    let mut patience = Patience::new(picture.state.subscribe());
    let mut revocation = picture.own.revocation();
    let mut rejoined = None;
    loop {
        let cause = tokio::select! {
            () = token.cancelled() => return Ok(()),
            cause = revoked(&picture, &mut revocation) => Some(cause),
            () = patience.end() => None,
        };
        let work = async {
            match cause {
                Some(cause) => come_back(&picture, &mut enroller, &mut rejoined, cause).await,
                None => {
                    attach(&picture, &mut enroller).await;
                    Ok(())
                }
            }
        };
        tokio::select! {
            () = token.cancelled() => return Ok(()),
            done = work => done?,
        }
        enroller.close();
    }
}

/// Waits until the SVID in use is revoked; why.
async fn revoked(picture: &Picture, revocation: &mut watch::Receiver<Option<Revoked>>) -> String {
    loop {
        let found = revocation.borrow_and_update().clone();
        match found {
            Some(found) if found.key == *picture.svid.current().key_hash() => return found.cause,
            // the picture has the sender, so this cannot fail
            _ => drop(revocation.changed().await),
        }
    }
}

/// Joins anew with the token after the SVID was revoked.
async fn come_back(
    picture: &Picture,
    enroller: &mut Enroller,
    rejoined: &mut Option<Instant>,
    cause: String,
) -> Result<(), JoinError> {
    let end = |why: &str| JoinError::Revoked { cause: format!("{cause}{why}") };
    if !enroller.has_token() {
        return Err(end(""));
    }
    if rejoined.is_some_and(|at| at.elapsed() < CALM) {
        return Err(end(", again after it had joined anew"));
    }
    tracing::warn!(cause, "this workload's SVID was revoked, joining again with the token");
    enroller.begin_anew(
        picture.state_dir.as_ref().map_or_else(|| Ok(KeyPair::generate()?), |dir| dir.join_key())?,
    );
    let gateways = picture.gateways.borrow().clone();
    enroller.set_hosts(&gateways);
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut last = String::new();
    for _ in 0..TRIES {
        match enroller.join_if_needed().await {
            Ok(member) => {
                picture.rejoined(member.is_some_and(|member| member.trusted_before));
                picture.save_identity(picture.svid.current()).await;
                picture.state_dir.iter().for_each(|dir| dir.forget_join_key());
                *rejoined = Some(Instant::now());
                tracing::info!(id = %picture.svid.current().id(), "joined again after the SVID was revoked");
                return Ok(());
            }
            Err(Setback::Final(error)) => {
                return Err(end(&format!(", and the token does not help: {error}")));
            }
            Err(Setback::Retry(cause)) => last = cause,
        }
        tokio::time::sleep(backoff.next_delay(rand::random())).await;
    }
    Err(end(&format!(", and no gateway could be joined anew: {last}")))
}

/// When it is time for a try.
struct Patience {
    state: watch::Receiver<ControlState>,
    /// Not before then, once it has been tried.
    rest: Option<tokio::time::Instant>,
}

impl Patience {
    fn new(state: watch::Receiver<ControlState>) -> Self {
        Self { state, rest: None }
    }

    /// Ends when the sidecar has been alone for a while, and again later if it still is.
    async fn end(&mut self) {
        if let Some(rest) = self.rest {
            tokio::time::sleep_until(rest).await;
            self.rest = None;
        }
        loop {
            let alone_since = self.state.borrow_and_update().alone_since;
            let due = async {
                match alone_since {
                    Some(since) => tokio::time::sleep(AFTER.saturating_sub(since.elapsed())).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // the picture has the sender, so this cannot fail
                _ = self.state.changed() => {}
                () = due => break,
            }
        }
        let jitter = AGAIN.mul_f64(rand::random::<f64>() / 2.0);
        self.rest = Some(tokio::time::Instant::now() + AGAIN + jitter);
    }
}

async fn attach(picture: &Picture, enroller: &mut Enroller) {
    let gateways = picture.gateways.borrow().clone();
    enroller.set_hosts(&gateways);
    let (began, svid) = (Instant::now(), picture.svid.current());
    match try_once(picture, enroller).await {
        Ok(()) => tracing::info!(took = ?began.elapsed(), "attached again after every gateway was lost"),
        Err(Setback::Retry(cause)) => tracing::warn!(cause, "no gateway can be reached"),
        Err(Setback::Final(JoinError::Revoked { cause })) => picture.refused_as_revoked(&svid, cause),
        Err(Setback::Final(error)) => {
            tracing::error!(%error, reason = error.reason(), "the cluster does not take this sidecar back");
        }
    }
}

async fn try_once(picture: &Picture, enroller: &mut Enroller) -> Result<(), Setback> {
    if let Some(member) = enroller.join_if_needed().await? {
        picture.rejoined(member.trusted_before);
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant as Virtual, timeout};

    const SLACK: Duration = Duration::from_millis(50);

    #[tokio::test(start_paused = true)]
    async fn a_sidecar_that_is_alone_for_long_attaches_again_until_it_is_not() {
        let state = watch::Sender::new(ControlState::default());
        let mut patience = Patience::new(state.subscribe());
        let set = |alone: bool| {
            state.send_modify(|state| state.alone_since = alone.then(Instant::now));
        };
        assert!(timeout(4 * AFTER, patience.end()).await.is_err(), "it was never alone");
        // a gateway that only restarts is back in time
        set(true);
        assert!(timeout(AFTER - SLACK, patience.end()).await.is_err());
        set(false);
        assert!(timeout(4 * AFTER, patience.end()).await.is_err());

        set(true);
        let alone = Virtual::now();
        patience.end().await;
        assert!(alone.elapsed() <= AFTER + SLACK, "{:?}", alone.elapsed());
        // it is alone for longer than that already when the next try is due: a state that is in the past of the real clock
        state.send_modify(|state| state.alone_since = Instant::now().checked_sub(AFTER));
        let tried = Virtual::now();
        patience.end().await;
        let between = tried.elapsed();
        assert!(between >= AGAIN && between <= AGAIN + AGAIN / 2 + SLACK, "{between:?}");
        set(false);
        assert!(timeout(10 * AGAIN, patience.end()).await.is_err(), "it is not alone any more");
    }
}
