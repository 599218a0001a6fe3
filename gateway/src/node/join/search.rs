//! Whom to ask, and how often: every gateway of the token in turn, and all of them again while one may still say yes.
//!
//! Owns what a failure means for the next attempt. What is asked, and how, is the caller's.

use causeway_model::HostPort;
use causeway_runtime::Backoff;
use causeway_transport::resolve;
use causeway_wire::view::Refusal;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

/// How long rounds over the gateways go on while one of them may say yes later. It outlasts the election of a leader.
const PATIENCE: Duration = Duration::from_secs(30);
/// The shortest and the longest wait between rounds.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// An attempt that failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No gateway will say anything else.
    Refused(String),
    /// This gateway may say yes later: it was reached, and is busy, starting or stopping, or cannot tell whether the cluster
    /// has agreed. Asking again with the same key is the same request.
    NotNow(String),
    /// This gateway was not reached.
    Unreachable(String),
}

impl Failure {
    /// What a gateway's refusal means.
    pub(super) fn refused(refusal: &Refusal) -> Self {
        let cause = format!("{} ({})", refusal.message, refusal.reason);
        if is_transient(&refusal.reason) { Self::NotNow(cause) } else { Self::Refused(cause) }
    }
}

/// Whether the same request may succeed later, or at another gateway, without anybody's doing.
fn is_transient(reason: &str) -> bool {
    matches!(
        reason,
        // what the registry says that has no leader, is starting or stopping, or lost the leader's answer
        "no-quorum"
            | "not-initialised"
            | "not-ready"
            | "timeout"
            | "registry-failed"
            | "unreachable"
            | "stopped"
            | "closed"
            // what a gateway says that is busy, starting or stopping
            | "overloaded"
            | "draining"
            | "going-away"
            | "unavailable"
            | "internal"
            // it has no key, or not got the registry yet
            | "cannot-sign"
    )
}

/// The first yes of `gateways`.
pub(super) async fn search<T>(
    gateways: &[HostPort],
    mut ask: impl AsyncFnMut(SocketAddr) -> Result<T, Failure>,
) -> Result<T, String> {
    let began = Instant::now();
    let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
    loop {
        match round(gateways, &mut ask).await {
            Ok(joined) => return Ok(joined),
            Err(Failure::Refused(cause)) => return Err(cause),
            Err(Failure::NotNow(causes)) if began.elapsed() < PATIENCE => {
                tracing::warn!(causes, "no gateway lets this one join yet; it keeps trying");
                tokio::time::sleep(backoff.next_delay(rand::random())).await;
            }
            Err(Failure::NotNow(causes)) => {
                return Err(format!(
                    "no gateway lets this one join at the moment ({causes}); start it again with the same token and data directory: \
                     its key is kept there, so that a use of the token that has been counted already is not counted again"
                ));
            }
            Err(Failure::Unreachable(causes)) => {
                return Err(format!(
                    "no gateway of the token answers ({causes}); check that its UDP port is open from here and that it runs"
                ));
            }
        }
    }
}

/// Asks each gateway once, until one says yes or no. The failure has all causes.
async fn round<T>(
    gateways: &[HostPort],
    ask: &mut impl AsyncFnMut(SocketAddr) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let (mut causes, mut reached) = (Vec::new(), false);
    for host in gateways {
        let addrs = match resolve(host).await {
            Ok(addrs) => addrs,
            Err(error) => {
                causes.push(format!("{host}: {error}"));
                continue;
            }
        };
        for addr in addrs {
            match ask(addr).await {
                Ok(joined) => return Ok(joined),
                Err(Failure::Refused(cause)) => return Err(Failure::Refused(cause)),
                Err(Failure::NotNow(cause)) => {
                    reached = true;
                    causes.push(format!("{addr}: {cause}"));
                }
                Err(Failure::Unreachable(cause)) => causes.push(format!("{addr}: {cause}")),
            }
        }
    }
    let causes = causes.join("; ");
    Err(if reached { Failure::NotNow(causes) } else { Failure::Unreachable(causes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateways(ports: &[u16]) -> Vec<HostPort> {
        ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port)).into()).collect()
    }

    fn refused(reason: &str) -> Failure {
        Failure::refused(&Refusal { request: 0, reason: reason.to_owned(), message: "no".to_owned() })
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_tell_whether_the_cluster_agreed_is_asked_again() {
        let gateways = gateways(&[1, 2]);
        for reason in ["timeout", "registry-failed", "no-quorum", "not-ready", "overloaded"] {
            let mut asked = Vec::new();
            let joined = search(&gateways, async |addr: SocketAddr| {
                asked.push(addr.port());
                match asked.len() {
                    1 | 3 | 4 => Err(refused(reason)),
                    2 => Err(Failure::Unreachable("timed-out".to_owned())),
                    _ => Ok("joined"),
                }
            });
            assert_eq!(joined.await, Ok("joined"), "{reason}");
            assert_eq!(asked, [1, 2, 1, 2, 1], "{reason}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_and_says_that_the_same_key_may_ask_again() {
        let began = Instant::now();
        let error = search::<()>(&gateways(&[1]), async |_| Err(refused("timeout"))).await.unwrap_err();
        assert!(error.contains("127.0.0.1:1: no (timeout)") && error.contains("same token"), "{error}");
        let took = began.elapsed();
        assert!(took >= PATIENCE && took <= PATIENCE + AGAIN.1, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_ends_it_and_so_does_silence_everywhere() {
        let began = Instant::now();
        let (gateways, mut asked) = (gateways(&[1, 2]), 0);
        let used_up = search::<()>(&gateways, async |_| {
            asked += 1;
            Err(refused("token-used-up"))
        });
        assert_eq!(used_up.await, Err("no (token-used-up)".to_owned()));
        assert_eq!(asked, 1);
        let silent = async |_| Err(Failure::Unreachable("timed-out".to_owned()));
        let error = search::<()>(&gateways, silent).await.unwrap_err();
        assert!(error.contains("127.0.0.1:1: timed-out; 127.0.0.1:2: timed-out"), "{error}");
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
