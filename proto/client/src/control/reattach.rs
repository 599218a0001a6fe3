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

/// How long a sidecar is alone at least before it tries, and at most: a gateway that only restarts is back by then, over the overlay. One
/// that came in the place of those that were lost is found by trying alone: nobody has told of it. Sidecars that were alone at one
/// instant do not come at one instant.
const AFTER: (Duration, Duration) = (Duration::from_millis(1500), Duration::from_secs(3));
/// The shortest wait between two tries, and the longest, of which a random part is waited. A try that nobody answers takes 4 s.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));

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
            () = patience.end(rand::random) => None,
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
    /// How long to wait between tries.
    pause: Backoff,
    /// It has been tried since the sidecar is alone.
    tried: bool,
}

impl Patience {
    fn new(state: watch::Receiver<ControlState>) -> Self {
        Self { state, pause: Backoff::new(AGAIN.0, AGAIN.1), tried: false }
    }

    /// Ends when the sidecar has been alone for a while, and again later if it still is. `random` draws evenly from `0.0..1.0`.
    async fn end(&mut self, random: impl Fn() -> f64) {
        let first = AFTER.0 + (AFTER.1 - AFTER.0).mul_f64(random());
        let pause = if self.tried { self.pause.next_delay(random()) } else { Duration::ZERO };
        let again = tokio::time::Instant::now() + pause;
        loop {
            let alone_since = self.state.borrow_and_update().alone_since;
            if alone_since.is_none() {
                self.tried = false;
                self.pause.reset();
            }
            let tried = self.tried;
            let due = async {
                match alone_since {
                    Some(_) if tried => tokio::time::sleep_until(again).await,
                    Some(since) => tokio::time::sleep_until((since + first).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // the picture has the sender, so this cannot fail
                _ = self.state.changed() => {}
                () = due => break,
            }
        }
        self.tried = true;
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
    const LONG: Duration = Duration::from_secs(60);

    /// The time of the test's clock, which stands still while the test works.
    fn now() -> Instant {
        Virtual::now().into_std()
    }

    #[tokio::test(start_paused = true)]
    async fn a_sidecar_that_is_alone_for_long_attaches_again_until_it_is_not() {
        let state = watch::Sender::new(ControlState::default());
        let mut patience = Patience::new(state.subscribe());
        let set = |alone: bool| {
            state.send_modify(|state| state.alone_since = alone.then(now));
        };
        let latest = || 0.999_999;
        assert!(timeout(LONG, patience.end(latest)).await.is_err(), "it was never alone");
        // a gateway that only restarts is back in time
        set(true);
        assert!(timeout(AFTER.0 - SLACK, patience.end(|| 0.0)).await.is_err());
        set(false);
        assert!(timeout(LONG, patience.end(latest)).await.is_err());

        set(true);
        let alone = Virtual::now();
        patience.end(latest).await;
        assert!(
            alone.elapsed() >= AFTER.1 - SLACK && alone.elapsed() <= AFTER.1 + SLACK,
            "{:?}",
            alone.elapsed()
        );
        for ceiling in [500, 1000, 2000, 4000, 4000] {
            let tried = Virtual::now();
            patience.end(latest).await;
            let (between, ceiling) = (tried.elapsed(), Duration::from_millis(ceiling));
            assert!(between >= ceiling - SLACK && between <= ceiling + SLACK, "{between:?}");
        }
        set(false);
        assert!(timeout(LONG, patience.end(latest)).await.is_err(), "it is not alone any more");
        set(true);
        let alone = Virtual::now();
        patience.end(|| 0.0).await;
        assert!(alone.elapsed() <= AFTER.0 + SLACK, "it begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_sidecars_do_not_come_at_one_instant() {
        let (mut tries, began) = (std::collections::BTreeMap::<u128, u32>::new(), Virtual::now());
        let state = watch::Sender::new(ControlState { alone_since: Some(now()), ..ControlState::default() });
        let mut sidecars = tokio::task::JoinSet::new();
        for _ in 0..10_000 {
            let mut patience = Patience::new(state.subscribe());
            sidecars.spawn(async move {
                let mut at = Vec::new();
                for _ in 0..5 {
                    patience.end(rand::random).await;
                    at.push(began.elapsed());
                    // nobody answers
                    tokio::time::sleep(Duration::from_secs(4)).await;
                }
                at
            });
        }
        while let Some(at) = sidecars.join_next().await {
            for at in at.unwrap() {
                *tries.entry(at.as_millis() / 100).or_default() += 1;
            }
        }
        let most = tries.values().max().unwrap();
        assert!(*most < 1_500, "{most} of 10,000 come in a tenth of a second: {tries:?}");
    }
}
