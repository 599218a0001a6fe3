//! Why a link could not be made.

use causeway_catalog::Refusal;
use causeway_identity::IdentityError;
use causeway_model::ClusterName;
use causeway_store::ProposeError;
use causeway_wire::CloseCode;

/// Why a link could not be made. The messages are for the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The registry did not take the change.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The rules of the registry forbid it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A TLS configuration could not be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The gateway's replica of the registry is empty.
    #[error("this gateway has no copy of the registry yet: wait until it is ready, then ask again")]
    NotReady,
    /// Nobody could follow an invitation.
    #[error(
        "no gateway of this cluster has an address for linked clusters: start one with --advertise link=HOST:PORT"
    )]
    NoAddress,
    /// A forwarder has no say in links.
    #[error("this gateway is a forwarder, which makes no links: ask a gateway of role gateway")]
    Forwarder,
    /// The token has ended.
    #[error(
        "link token {id} of cluster {cluster} expired at unix time {expires_at}, and it is {now} by this gateway's clock, \
         {} s later: make a new one there with `causeway link invite`, or correct this clock",
        now.saturating_sub(*expires_at)
    )]
    Expired {
        /// The token's id.
        id: String,
        /// Who made it.
        cluster: ClusterName,
        /// When it ended, in seconds since 1970.
        expires_at: u64,
        /// What this gateway's clock says, in seconds since 1970.
        now: u64,
    },
    /// The token is for another cluster.
    #[error(
        "link token {id} of cluster {cluster} is for cluster {invited}, and this is {own}: make one there with \
         `causeway link invite --for {own}`"
    )]
    ForAnother {
        /// The token's id.
        id: String,
        /// Who made it.
        cluster: ClusterName,
        /// Who may accept it.
        invited: ClusterName,
        /// This cluster.
        own: ClusterName,
    },
    /// The token was made here.
    #[error(
        "link token {id} was made by this cluster, {cluster}: run `causeway link accept` in the cluster to be linked with it"
    )]
    OwnToken {
        /// The token's id.
        id: String,
        /// This cluster.
        cluster: ClusterName,
    },
    /// No gateway of the token answers.
    #[error(
        "no gateway of cluster {cluster} answers ({tried}): check that these addresses are reachable over UDP from here, \
         and that both clocks are right"
    )]
    Unreachable {
        /// Who made the token.
        cluster: ClusterName,
        /// Each address with what happened there.
        tried: String,
    },
    /// The token is unknown here, or its secret was not proved. One message for both, so that nobody learns which.
    #[error(
        "the token is not one of this cluster, ended long ago, or its secret was not proved: make a new one with \
         `causeway link invite` and copy all of it"
    )]
    TokenRefused,
    /// What the other side says of itself cannot be.
    #[error("what cluster {cluster} says of itself is not accepted: {what}")]
    Introduction {
        /// Who it says it is.
        cluster: ClusterName,
        /// What is wrong.
        what: String,
    },
    /// The other side refused.
    #[error("cluster {cluster} refused: {message}")]
    PeerRefused {
        /// Who refused.
        cluster: ClusterName,
        /// Its stable word.
        reason: &'static str,
        /// What it said.
        message: String,
    },
    /// The other side's answer is missing.
    #[error(
        "whether cluster {cluster} made the link is unknown: {cause}; make a new token there and accept that one, which \
         replaces what may have been made"
    )]
    Unconfirmed {
        /// The other cluster.
        cluster: ClusterName,
        /// What happened.
        cause: String,
    },
    /// The link exists on the other side only.
    #[error(
        "cluster {cluster} made the link, but this cluster could not: {cause}; then make a new token there and accept that \
         one, or run `causeway link remove {own}` there"
    )]
    HalfMade {
        /// The other cluster.
        cluster: ClusterName,
        /// This cluster.
        own: ClusterName,
        /// Why this cluster could not.
        cause: ProposeError,
    },
}

impl LinkError {
    /// The stable word for logs, metrics and answers.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Propose(error) => error.reason(),
            Self::Refused(refusal) => refusal.reason(),
            Self::Identity(error) => error.reason(),
            Self::NotReady => "not-ready",
            Self::NoAddress => "link-no-address",
            Self::Forwarder => CloseCode::WrongRole.reason(),
            Self::Expired { .. } => "invite-expired",
            Self::ForAnother { .. } => "invite-for-another",
            Self::OwnToken { .. } => "link-own-token",
            Self::Unreachable { .. } => "link-unreachable",
            Self::TokenRefused => CloseCode::TokenRefused.reason(),
            Self::Introduction { .. } => "link-introduction",
            Self::PeerRefused { reason, .. } => reason,
            Self::Unconfirmed { .. } => "link-unconfirmed",
            Self::HalfMade { .. } => "link-half-made",
        }
    }

    /// A refusal that came over the network: its word if it is one of ours, its text made harmless.
    pub(super) fn refused_by(cluster: &ClusterName, reason: &str, message: &str) -> Self {
        const MAX_SHOWN: usize = 1024;
        let own = ["no-quorum", "timeout", "registry-failed", "not-ready", "link-introduction"];
        let words = Refusal::REASONS.iter().chain(&own).copied();
        let codes = CloseCode::ALL.iter().map(|code| code.reason());
        let reason = words.chain(codes).find(|known| *known == reason).unwrap_or("link-refused");
        let shown = message.chars().take(MAX_SHOWN).map(|c| if c.is_control() { ' ' } else { c });
        Self::PeerRefused { cluster: cluster.clone(), reason, message: shown.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_refusal_keeps_a_known_word_and_loses_control_characters() {
        let cluster: ClusterName = "phx".parse().unwrap();
        let known = LinkError::refused_by(&cluster, "invite-used", "used\x1b[2J up");
        assert_eq!(known.reason(), "invite-used");
        assert_eq!(known.to_string(), "cluster phx refused: used [2J up");
        let unknown = LinkError::refused_by(&cluster, "made-up", &"x".repeat(5000));
        assert_eq!(unknown.reason(), "link-refused");
        assert!(unknown.to_string().len() < 1100);
    }

    #[test]
    fn an_expired_token_names_both_times() {
        let error = LinkError::Expired {
            id: "00000000000000ff".into(),
            cluster: "phx".parse().unwrap(),
            expires_at: 1000,
            now: 4600,
        };
        let text = error.to_string();
        assert!(text.contains("1000") && text.contains("4600") && text.contains("3600 s later"), "{text}");
    }
}
