//! What a gateway's refusals mean for a sidecar: whether to ask again, and which end it.

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
    /// The configuration is wrong unless the gateway's registry lags behind the one that was joined.
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
    fn a_lagging_registry_is_no_mistake_of_the_configuration() {
        assert_eq!(registration("ports-differ"), Gravity::Fatal);
        assert_eq!(registration("may-not-serve"), Gravity::FatalIfItLasts);
        assert_eq!(registration("a-word-of-a-later-release"), Gravity::Transient);
    }
}
