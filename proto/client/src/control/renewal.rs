//! Renews the SVID in time, through any gateway.

use super::own::Asked;
use super::picture::Picture;
use super::session::Request;
use crate::bootstrap::accept_issue;
use crate::moment::{show, unix};
use causeway_identity::{KeyPair, Svid};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The longest sleep: the wall clock may be set, and another task may have replaced the SVID.
const NAP: Duration = Duration::from_secs(60);
/// When a renewal that failed is tried again.
const AGAIN: Duration = Duration::from_secs(60);
/// The shortest wait where nobody could be asked.
const PAUSE: Duration = Duration::from_millis(200);
/// How long one gateway may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Renews until `token` is cancelled.
pub(super) async fn run(picture: Arc<Picture>, token: CancellationToken) {
    let (mut state, mut asked) = (picture.state.subscribe(), picture.own.asked());
    // not before then, once it has failed
    let mut rest: Option<Instant> = None;
    loop {
        let svid = picture.svid.current();
        let expires = i64::try_from(unix(svid.not_after())).unwrap_or(i64::MAX);
        picture.metrics.svid_expires_at.set(expires);
        let due = *asked.borrow_and_update();
        let left = time_left(&svid, due, SystemTime::now());
        let alone = picture.sessions().is_empty();
        let now = Instant::now();
        let wait = match (left, rest.filter(|rest| *rest > now)) {
            (Some(left), _) => left.min(NAP),
            (None, Some(rest)) => rest.duration_since(now),
            (None, None) => {
                let again = try_once(&picture).await;
                rest = again.map(|again| Instant::now() + again);
                again.unwrap_or_default()
            }
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
            // the picture has the sender, so this cannot fail
            _ = asked.changed() => {}
            () = connected, if alone && left.is_none() => rest = None,
        }
    }
}

/// How long there is until the SVID is to be renewed, because it ends or because a gateway asked for it; `None` when it is to be
/// now.
fn time_left(svid: &Svid, asked: Option<Asked>, now: SystemTime) -> Option<Duration> {
    let life = svid.renewal_due().duration_since(now).ok();
    let asked = asked.map(|asked| asked.at.saturating_duration_since(Instant::now()));
    let left = asked.map_or(life, |asked| life.map(|life| life.min(asked)));
    left.filter(|left| !left.is_zero())
}

/// Renews once; how long to wait until another try, if it failed.
async fn try_once(picture: &Picture) -> Option<Duration> {
    match renew(picture).await {
        Ok(svid) => {
            picture.metrics.renewals.inc();
            tracing::info!(id = %svid.id(), until = show(unix(svid.not_after())), "the identity was renewed");
            None
        }
        Err(cause) => {
            picture.metrics.renewals_failed.inc();
            let expires_at = show(unix(picture.svid.current().not_after()));
            tracing::warn!(
                cause,
                expires_at,
                "the identity is due and was not renewed, trying again in a minute"
            );
            Some(AGAIN)
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
            Ok((svid, bundle)) => match picture.renewed(svid, bundle) {
                Ok(current) => {
                    picture.save_identity(current.clone()).await;
                    picture.dirty.notify_one();
                    return Ok(current);
                }
                Err(useless) => cause = useless,
            },
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
    fn an_identity_is_renewed_in_time_or_when_it_is_asked_for() {
        let now = SystemTime::now();
        let ca = ClusterCa::create(&"iad.mesh".parse().unwrap(), now).unwrap();
        let key = KeyPair::generate().unwrap();
        let id = "spiffe://iad.mesh/ns/shop/sa/web".parse().unwrap();
        let chain = ca.sign_svid(&key.csr().unwrap(), &id, now, 24 * HOUR).unwrap();
        let svid = Svid::new(chain, key).unwrap();
        let left = |after| time_left(&svid, None, now + after);
        // after two thirds of its life, give or take a twentieth
        assert!(left(Duration::ZERO).is_some_and(|left| left > 14 * HOUR && left < 18 * HOUR));
        assert_eq!(left(18 * HOUR), None);
        assert_eq!(left(48 * HOUR), None, "an expired one is due");
        let asked = |wait| Some(Asked { root: [1; 8], at: Instant::now() + wait });
        assert!(time_left(&svid, asked(HOUR), now).is_some_and(|left| left <= HOUR));
        assert_eq!(time_left(&svid, asked(Duration::ZERO), now), None);
        assert_eq!(time_left(&svid, asked(HOUR), now + 20 * HOUR), None);
    }
}
