//! Renews the SVID in time, through any gateway.

use super::picture::Picture;
use super::session::Request;
use crate::bootstrap::accept_issue;
use crate::moment::{show, unix};
use causeway_identity::{KeyPair, Svid};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// The longest sleep: the wall clock may be set, and another task may have replaced the SVID.
const NAP: Duration = Duration::from_secs(60);
/// When a renewal that failed is tried again.
const AGAIN: Duration = Duration::from_secs(60);
/// The shortest wait where nobody could be asked.
const PAUSE: Duration = Duration::from_millis(200);
/// How long one gateway may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The part of an SVID's life over which the renewals of sidecars that started together are spread.
const SPREAD: f64 = 0.05;

/// Renews until `token` is cancelled.
pub(super) async fn run(picture: Arc<Picture>, token: CancellationToken) {
    let spread: f64 = rand::random();
    let mut state = picture.state.subscribe();
    loop {
        let svid = picture.svid.current();
        let expires = i64::try_from(unix(svid.not_after())).unwrap_or(i64::MAX);
        picture.metrics.svid_expires_at.set(expires);
        let left = time_left(&svid, spread, SystemTime::now());
        let alone = picture.sessions().is_empty();
        let wait = match left {
            Some(left) => left.min(NAP),
            None => try_once(&picture).await,
        };
        let connected = async {
            // one that was due while there was nobody to ask is renewed as soon as there is somebody
            tokio::time::sleep(PAUSE).await;
            if state.wait_for(|state| !state.connected.is_empty()).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            () = connected, if alone && left.is_none() => {}
        }
    }
}

/// How long there is until the SVID is to be renewed; `None` when it is to be now.
fn time_left(svid: &Svid, spread: f64, now: SystemTime) -> Option<Duration> {
    let life = svid.not_after().duration_since(svid.not_before()).unwrap_or_default();
    let due = svid.renew_at().checked_add(life.mul_f64(SPREAD * spread.clamp(0.0, 1.0)))?;
    due.duration_since(now).ok().filter(|left| !left.is_zero())
}

/// Renews once; how long to wait then.
async fn try_once(picture: &Picture) -> Duration {
    match renew(picture).await {
        Ok(svid) => {
            picture.metrics.renewals.inc();
            tracing::info!(id = %svid.id(), until = show(unix(svid.not_after())), "the identity was renewed");
            Duration::ZERO
        }
        Err(cause) => {
            picture.metrics.renewals_failed.inc();
            let expires_at = show(unix(picture.svid.current().not_after()));
            tracing::warn!(
                cause,
                expires_at,
                "the identity is due and was not renewed, trying again in a minute"
            );
            AGAIN
        }
    }
}

async fn renew(picture: &Picture) -> Result<Arc<Svid>, String> {
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let csr = key.csr().map_err(|error| error.to_string())?;
    let mut cause = "no control connection stands".to_owned();
    for session in picture.sessions() {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            session.send(Request::Renew { csr: csr.clone(), answer }).await.ok()?;
            answered.await.ok()
        };
        let issued = match tokio::time::timeout(ANSWER_WITHIN, asked).await {
            Ok(Some(Ok(issued))) => issued,
            Ok(Some(Err(refused))) => {
                cause = refused;
                continue;
            }
            Ok(None) => {
                cause = "the control connection ended".to_owned();
                continue;
            }
            Err(_) => {
                cause = format!("no answer within {ANSWER_WITHIN:?}");
                continue;
            }
        };
        let domain = &picture.cluster.trust_domain;
        match accept_issue(issued, key.clone(), domain, None, SystemTime::now()) {
            Ok((svid, _)) if svid.id() != picture.svid.current().id() => {
                cause = format!("the gateway issued {} instead", svid.id());
            }
            Ok((svid, bundle)) => {
                picture.bundles.set(bundle).map_err(|error| error.to_string())?;
                picture.svid.replace(svid);
                let current = picture.svid.current();
                picture.save_identity(current.clone()).await;
                picture.dirty.notify_one();
                return Ok(current);
            }
            Err(bad) => cause = bad,
        }
    }
    Err(cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_identity::ClusterCa;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn an_identity_is_renewed_after_two_thirds_of_its_life_not_all_at_once() {
        let now = SystemTime::now();
        let ca = ClusterCa::create(&"iad.mesh".parse().unwrap(), now).unwrap();
        let key = KeyPair::generate().unwrap();
        let id = "spiffe://iad.mesh/ns/shop/sa/web".parse().unwrap();
        let chain = ca.sign_svid(&key.csr().unwrap(), &id, now, 24 * HOUR).unwrap();
        let svid = Svid::new(chain, key).unwrap();
        let left = |spread, after| time_left(&svid, spread, now + after);
        assert!(left(0.0, Duration::ZERO).is_some_and(|left| left > 15 * HOUR && left < 16 * HOUR));
        assert_eq!(left(0.0, 16 * HOUR), None);
        assert!(left(1.0, 16 * HOUR).is_some_and(|left| left > HOUR && left < HOUR * 3 / 2));
        assert_eq!(left(1.0, 18 * HOUR), None);
        assert_eq!(left(0.5, 48 * HOUR), None, "an expired one is due");
    }
}
