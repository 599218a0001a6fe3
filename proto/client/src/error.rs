//! Why a sidecar cannot become a member of its cluster.

use crate::moment::show;
use crate::state::StateError;
use causeway_identity::IdentityError;
use causeway_model::{ClusterFacts, ClusterName, ServiceName, TrustDomain};
use causeway_transport::ConnectError;
use std::path::PathBuf;

/// Why joining failed for good: asking again would not help. That no gateway can be reached is never one of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// There is neither a token nor a saved identity.
    #[error(
        "there is nothing to join with: {}; make a token with `causeway token create` on a gateway and give it with --token",
        place(state_dir.as_ref())
    )]
    NoToken {
        /// Where an identity was looked for.
        state_dir: Option<PathBuf>,
    },
    /// The SVID has expired and there is no token.
    #[error(
        "the identity {id}{} expired at {} and there is no token; make one with `causeway token create` on a gateway and \
         give it with --token",
        state_dir.as_ref().map(|dir| format!(" in {}", dir.display())).unwrap_or_default(), show(*expired_at)
    )]
    SvidExpired {
        /// The identity.
        id: String,
        /// The folder that it was saved in.
        state_dir: Option<PathBuf>,
        /// When it expired, in seconds since 1970.
        expired_at: u64,
    },
    /// The token has expired by this machine's clock.
    #[error(
        "token {token} of cluster {cluster} expired at {}, and it is {} by this machine's clock; make a new one with \
         `causeway token create`, or correct the clock",
        show(*expired_at), show(*now)
    )]
    TokenExpired {
        /// The token's id.
        token: String,
        /// The cluster that made it.
        cluster: ClusterName,
        /// When it ended, in seconds since 1970.
        expired_at: u64,
        /// What this machine's clock says.
        now: u64,
    },
    /// The token is for gateways.
    #[error(
        "token {token} of cluster {cluster} is for a {role}, not for a sidecar; make one with `causeway token create \
         --service ...`"
    )]
    TokenRole {
        /// The token's id.
        token: String,
        /// The cluster that made it.
        cluster: ClusterName,
        /// Whom it is for.
        role: String,
    },
    /// The token does not cover a service that is to be served.
    #[error(
        "token {token} of cluster {cluster} does not allow to serve {service} (it allows {}); make one that does with \
         `causeway token create --service {service}`, or do not serve it",
        list(allowed)
    )]
    TokenService {
        /// The token's id.
        token: String,
        /// The cluster that made it.
        cluster: ClusterName,
        /// The first service that it does not cover.
        service: ServiceName,
        /// Those that it covers.
        allowed: Vec<ServiceName>,
    },
    /// More services than one workload may serve.
    #[error("{count} services are to be served, at most {} may be", causeway_wire::ctl::MAX_SERVED)]
    TooManyServices {
        /// How many.
        count: usize,
    },
    /// The token has no gateway address, and none is saved.
    #[error(
        "token {token} of cluster {cluster} names no gateway address; make a new one on a gateway that has --advertise"
    )]
    NoGateway {
        /// The token's id.
        token: String,
        /// The cluster that made it.
        cluster: ClusterName,
    },
    /// The state folder belongs to another cluster than the token.
    #[error(
        "{} holds the state of cluster {saved} ({saved_domain}), and the token is for cluster {token} ({token_domain}); \
         give each cluster a --state-dir of its own, or delete the folder if {saved} is gone",
        state_dir.display()
    )]
    OtherCluster {
        /// The folder.
        state_dir: PathBuf,
        /// Whose state it holds.
        saved: ClusterName,
        /// Its trust domain.
        saved_domain: TrustDomain,
        /// Who made the token.
        token: ClusterName,
        /// Its trust domain.
        token_domain: TrustDomain,
    },
    /// The gateway that answered is of another cluster.
    #[error(
        "the gateway at {peer} is of cluster {} (id {}, {}), and cluster id {expected} ({expected_domain}) was expected; \
         check the address in the token, and that no other cluster took it over",
        found.name, found.id, found.trust_domain
    )]
    WrongCluster {
        /// The address.
        peer: String,
        /// Its cluster.
        found: Box<ClusterFacts>,
        /// The id that was expected.
        expected: u32,
        /// The trust domain that was expected.
        expected_domain: TrustDomain,
    },
    /// No gateway at the token's addresses has the token's root certificate.
    #[error(
        "no gateway at the token's addresses has the root certificate that token {token} names ({causes}); the token is \
         of another cluster or its root was replaced: make a new one with `causeway token create`"
    )]
    WrongRoot {
        /// The token's id.
        token: String,
        /// What each address said.
        causes: String,
    },
    /// The clocks of this machine and of the gateway differ too much for certificates.
    #[error(
        "the clocks differ by {} s: this machine's says {}, that of the gateway at {peer} says {}; correct the wrong one \
         (at most 300 s are allowed)",
        ours.abs_diff(*theirs), show(*ours), show(*theirs)
    )]
    Clock {
        /// The gateway's address.
        peer: String,
        /// This machine's clock, in seconds since 1970.
        ours: u64,
        /// The gateway's.
        theirs: u64,
    },
    /// A gateway refused.
    #[error("the gateway at {peer} refused to {what} ({reason}): {message}")]
    Refused {
        /// The gateway's address.
        peer: String,
        /// What was asked.
        what: &'static str,
        /// Its stable word.
        reason: String,
        /// What it said to the operator.
        message: String,
    },
    /// A gateway issued something that cannot be used.
    #[error("the gateway at {peer} issued an identity that cannot be used: {cause}")]
    BadIssue {
        /// The gateway's address.
        peer: String,
        /// What is wrong with it.
        cause: String,
    },
    /// This workload's SVID was revoked, and no token brought it back.
    #[error(
        "this workload's SVID was revoked: {cause}; join again with a new token: make one with `causeway token create` on a \
         gateway and give it with --token"
    )]
    Revoked {
        /// What the gateway, or the trust bundle, says of it.
        cause: String,
    },
    /// The gateways at the token's addresses are of another trust domain than the token.
    #[error(
        "no gateway at the token's addresses is of trust domain {trust_domain}, for which token {token} is ({causes}); check \
         the addresses, and that no other cluster took them over"
    )]
    OtherDomain {
        /// The token's id.
        token: String,
        /// Its trust domain.
        trust_domain: TrustDomain,
        /// What each address said.
        causes: String,
    },
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A key or TLS configuration could not be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The endpoint to join through could not be made.
    #[error("cannot join: {0}")]
    Endpoint(#[from] ConnectError),
}

impl JoinError {
    /// The stable word for logs and metrics; a gateway's own where it refused.
    pub fn reason(&self) -> &str {
        match self {
            Self::NoToken { .. } => "no-token",
            Self::SvidExpired { .. } => "svid-expired",
            Self::TokenExpired { .. } => "token-expired",
            Self::TokenRole { .. } => "token-wrong-kind",
            Self::TokenService { .. } => "token-service",
            Self::TooManyServices { .. } => "too-many-services",
            Self::NoGateway { .. } => "no-gateway",
            Self::OtherCluster { .. } => "state-other-cluster",
            Self::WrongCluster { .. } => "wrong-cluster",
            Self::WrongRoot { .. } => "wrong-fingerprint",
            Self::Clock { .. } => "clock",
            Self::Refused { reason, .. } => reason,
            Self::BadIssue { .. } => "bad-issue",
            Self::Revoked { .. } => "revoked",
            Self::OtherDomain { .. } => "wrong-cluster",
            Self::State(error) => error.reason(),
            Self::Identity(error) => error.reason(),
            Self::Endpoint(error) => error.reason(),
        }
    }
}

fn place(state_dir: Option<&PathBuf>) -> String {
    state_dir.map_or_else(
        || "no token was given and there is no --state-dir".to_owned(),
        |dir| format!("no token was given and {} holds no identity", dir.display()),
    )
}

fn list(services: &[ServiceName]) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<String> = services.iter().take(SHOWN).map(ToString::to_string).collect();
    match services.len() {
        0 => return "none".to_owned(),
        n if n > SHOWN => names.push(format!("{} more", n - SHOWN)),
        _ => {}
    }
    names.join(", ")
}
