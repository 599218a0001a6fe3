//! What a gateway's refusals mean for a sidecar: whether to ask again, and which end it.

use std::time::{Duration, Instant};

/// A gateway asks the leader before it refuses what its own registry does not allow. One that took longer than this has waited
/// for a leader in vain, and its registry may lag.
const PROMPT: Duration = Duration::from_millis(500);
/// How long prompt refusals have to go on until they are believed.
const LASTING: Duration = Duration::from_millis(400);

/// Whether the same request may succeed later without anybody's doing: the gateway is busy, starting, stopping or without a
/// leader.
pub(crate) fn is_transient(reason: &str) -> bool {
    matches!(
        reason,
        "no-quorum"
            | "no-leader"
            | "not-ready"
            | "not-initialised"
            | "timeout"
            | "unreachable"
            | "unavailable"
            | "overloaded"
            | "draining"
            | "going-away"
            | "superseded"
            | "hello-timeout"
            | "internal"
            | "registry-failed"
            | "stopped"
            | "closed"
    )
}

/// Whether a gateway ended a connection because of who the sidecar is or what it has, which asking again does not change.
pub(crate) fn is_final_close(reason: &str) -> bool {
    matches!(reason, "token-refused" | "wrong-role" | "wrong-identity")
}

/// What a refused registration means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gravity {
    /// The configuration is wrong.
    Fatal,
    /// The configuration is wrong unless the gateway has no leader to ask at the moment, and its registry lags behind the one
    /// that was joined: it asks the leader before it refuses.
    FatalIfItLasts,
    /// Asking again may help.
    Transient,
}

/// What the refusal of a registration means.
pub(crate) fn registration(reason: &str) -> Gravity {
    match reason {
        "ports-differ" | "identity-foreign" | "identity-not-a-workload" | "invalid-value" => Gravity::Fatal,
        "may-not-serve" | "service-unknown" => Gravity::FatalIfItLasts,
        _ => Gravity::Transient,
    }
}

/// Whether the refusals of one gateway are for good.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Since when it has refused promptly.
    since: Option<Instant>,
}

impl Verdict {
    /// Whether the refusal at `now` of what was asked at `asked` is for good.
    pub(crate) fn of(&mut self, gravity: Gravity, asked: Instant, now: Instant) -> bool {
        match gravity {
            Gravity::Fatal => true,
            Gravity::FatalIfItLasts if now.saturating_duration_since(asked) < PROMPT => {
                now.saturating_duration_since(*self.since.get_or_insert(now)) >= LASTING
            }
            Gravity::FatalIfItLasts | Gravity::Transient => {
                self.since = None;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_tried_again_after_it_was_refused() {
        for reason in ["token-unknown", "token-expired", "token-used-up", "token-revoked", "token-wrong-kind"]
        {
            assert!(!is_transient(reason), "{reason}");
        }
        assert!(is_transient("no-quorum"));
    }

    #[test]
    fn a_refusal_is_for_good_when_it_lasts_and_the_gateway_has_a_leader_to_ask() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let lasts = Gravity::FatalIfItLasts;
        let mut verdict = Verdict::default();
        assert!(verdict.of(Gravity::Fatal, start, start + ms(900)));
        assert!(!verdict.of(lasts, start, start + ms(5)));
        assert!(!verdict.of(lasts, start + ms(250), start + ms(255)));
        assert!(verdict.of(lasts, start + ms(500), start + ms(505)));
        // a gateway without a leader does not know, however often it says so
        for n in 1..10 {
            let asked = start + n * ms(3000);
            assert!(!verdict.of(lasts, asked, asked + ms(2000)));
        }
        let asked = start + ms(60_000);
        assert!(!verdict.of(lasts, asked, asked + ms(5)), "it begins anew");
        assert!(!verdict.of(Gravity::Transient, asked, asked + ms(5)));
        assert!(!verdict.of(lasts, asked + ms(900), asked + ms(905)));
    }

    #[test]
    fn a_lagging_registry_is_no_mistake_of_the_configuration() {
        assert_eq!(registration("ports-differ"), Gravity::Fatal);
        assert_eq!(registration("may-not-serve"), Gravity::FatalIfItLasts);
        assert_eq!(registration("a-word-of-a-later-release"), Gravity::Transient);
    }
}
