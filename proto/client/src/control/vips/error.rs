//! Why there is no virtual address, or no name of one.

use causeway_wire::view::Refusal;

/// Why there is no virtual address, or no name of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VipError {
    /// There is no such service, here or in a linked cluster; or the address was given to no name.
    #[error("{message}")]
    Unknown {
        /// The gateway's stable word: `service-unknown`, `link-unknown` or `vip-unknown`.
        reason: String,
        /// What it said to the operator.
        message: String,
    },
    /// The gateways could not answer.
    #[error("no virtual address ({reason}): {message}")]
    Refused {
        /// The gateway's stable word.
        reason: String,
        /// What it said to the operator.
        message: String,
    },
    /// There is no gateway to ask.
    #[error(
        "no gateway of the cluster answers: what was never looked up here has no virtual address until one is back; see to the \
         gateways, or to the way to them"
    )]
    NoGateway,
    /// No gateway answered in time.
    #[error(
        "no gateway answered within 2 s: the cluster's registry may have no leader, or the gateways too much to do; ask again"
    )]
    Timeout,
}

impl VipError {
    /// The stable word for logs, metrics and answers; a gateway's own where it refused.
    pub fn reason(&self) -> &str {
        match self {
            Self::Unknown { reason, .. } | Self::Refused { reason, .. } => reason,
            Self::NoGateway => "no-gateway",
            Self::Timeout => "timeout",
        }
    }

    /// This sidecar asks for too many at once.
    pub(super) fn too_many() -> Self {
        let most = causeway_wire::ctl::MAX_VIP_ASKS;
        let message = format!("{most} questions for virtual addresses wait for an answer: ask again later");
        Self::Refused { reason: "overloaded".to_owned(), message }
    }
}

impl From<Refusal> for VipError {
    fn from(refusal: Refusal) -> Self {
        let Refusal { reason, message, .. } = refusal;
        if says_unknown(&reason) {
            Self::Unknown { reason, message }
        } else {
            Self::Refused { reason, message }
        }
    }
}

/// Whether a gateway that refuses with `reason` knows nothing of what was asked.
pub(super) fn says_unknown(reason: &str) -> bool {
    matches!(reason, "service-unknown" | "link-unknown" | "vip-unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_knows_is_told_from_what_cannot_be_answered() {
        let error = |reason: &str| {
            VipError::from(Refusal { request: 1, reason: reason.into(), message: "why: do this".into() })
        };
        for reason in ["service-unknown", "link-unknown", "vip-unknown"] {
            assert!(matches!(error(reason), VipError::Unknown { .. }) && error(reason).reason() == reason);
        }
        for reason in ["no-quorum", "vip-exhausted", "a-word-of-a-later-release"] {
            assert!(matches!(error(reason), VipError::Refused { .. }) && error(reason).reason() == reason);
        }
        for error in [error("vip-unknown"), error("timeout"), VipError::NoGateway, VipError::Timeout] {
            assert!(error.to_string().contains(": ") && !error.to_string().ends_with('.'), "{error}");
        }
    }
}
