//! What can be told to be wrong before anything is sent. Pure: time is an argument.

use super::Expected;
use crate::config::ClientConfig;
use crate::error::JoinError;
use crate::moment::unix;
use crate::state::{Known, Saved};
use causeway_identity::Svid;
use causeway_wire::ctl::MAX_SERVED;
use causeway_wire::token::{JoinFor, JoinToken};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// An identity with less life left than this is as good as expired: it would not last the start.
const LEFT: Duration = Duration::from_secs(10);

pub(super) fn services(config: &ClientConfig) -> Result<(), JoinError> {
    let count = config.serve.len();
    if count > MAX_SERVED { Err(JoinError::TooManyServices { count }) } else { Ok(()) }
}

/// Whether the saved state is of the token's cluster.
pub(super) fn same_cluster(config: &ClientConfig, known: Option<&Known>) -> Result<(), JoinError> {
    let (Some(token), Some(known), Some(dir)) = (&config.token, known, &config.state_dir) else {
        return Ok(());
    };
    let (core, saved) = (&token.core, &known.cluster);
    if core.cluster_id == saved.id && core.trust_domain == saved.trust_domain {
        return Ok(());
    }
    Err(JoinError::OtherCluster {
        state_dir: dir.clone(),
        saved: saved.name.clone(),
        saved_domain: saved.trust_domain.clone(),
        token: core.cluster.clone(),
        token_domain: core.trust_domain.clone(),
    })
}

/// The saved identity, if it still lives at `now`; without it there must be a token that will do.
pub(super) fn usable_identity(
    config: &ClientConfig,
    saved: &Saved,
    now: SystemTime,
) -> Result<Option<Svid>, JoinError> {
    // an identity without the cluster that it is of cannot be used: the folder lost its other file
    let complete = saved.identity.as_ref().filter(|svid| {
        saved.known.as_ref().is_some_and(|known| known.cluster.trust_domain == *svid.id().trust_domain())
    });
    if let Some(svid) = complete.filter(|svid| svid.expires_in(now) > LEFT) {
        return Ok(Some(svid.clone()));
    }
    let Some(token) = &config.token else {
        let state_dir = config.state_dir.clone();
        return Err(match complete {
            Some(svid) => expired(svid, state_dir),
            None => JoinError::NoToken { state_dir },
        });
    };
    token_fits(token, config)?;
    token_alive(config, true, now)?;
    Ok(None)
}

/// That an identity has expired and cannot be replaced.
pub(super) fn expired(svid: &Svid, state_dir: Option<PathBuf>) -> JoinError {
    JoinError::SvidExpired { id: svid.id().to_string(), state_dir, expired_at: unix(svid.not_after()) }
}

/// Whether the token is for a sidecar that serves what this one is to serve.
pub(super) fn token_fits(token: &JoinToken, config: &ClientConfig) -> Result<(), JoinError> {
    let (id, cluster) = (token.core.id_text(), token.core.cluster.clone());
    let allowed = match &token.join {
        JoinFor::Workload(allowed) => allowed,
        JoinFor::Gateway(role) => {
            return Err(JoinError::TokenRole { token: id, cluster, role: role.to_string() });
        }
    };
    match config.serve.iter().find(|served| !allowed.contains(&served.name)) {
        None => Ok(()),
        Some(served) => Err(JoinError::TokenService {
            token: id,
            cluster,
            service: served.name.clone(),
            allowed: allowed.clone(),
        }),
    }
}

/// Whether the token still lives at `now`, if one is needed.
pub(super) fn token_alive(config: &ClientConfig, needed: bool, now: SystemTime) -> Result<(), JoinError> {
    let Some(token) = config.token.as_ref().filter(|_| needed) else { return Ok(()) };
    let now = unix(now);
    if token.core.expires_at > now {
        return Ok(());
    }
    Err(JoinError::TokenExpired {
        token: token.core.id_text(),
        cluster: token.core.cluster.clone(),
        expired_at: token.core.expires_at,
        now,
    })
}

/// The cluster that is to be joined: the token's or the saved one, which are the same if there are both.
pub(super) fn expected(config: &ClientConfig, known: Option<&Known>) -> Result<Expected, JoinError> {
    let of_token = config
        .token
        .as_ref()
        .map(|token| Expected { id: token.core.cluster_id, trust_domain: token.core.trust_domain.clone() });
    let of_state = || {
        known.map(|known| Expected { id: known.cluster.id, trust_domain: known.cluster.trust_domain.clone() })
    };
    of_token.or_else(of_state).ok_or_else(|| JoinError::NoToken { state_dir: config.state_dir.clone() })
}
