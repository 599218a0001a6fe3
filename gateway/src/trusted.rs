//! Live connections are judged again whenever it changes whom this gateway believes.

use causeway_identity::{BundleStore, VerifyError};
use causeway_transport::{Connection, peer_chain};
use causeway_wire::CloseCode;

/// Waits until the peer of `connection` is not believed any more, and says why; for ever if it showed no certificate.
///
/// A root that is dropped at the end of a rotation ends no connection: nobody gets a new one with it, and those that stand were
/// made while it was good. What ends them is a revocation, or the end of the link; a link's own session says its farewell first,
/// so only a revocation ends one of those (`link`).
pub(crate) async fn distrusted(
    bundles: &BundleStore,
    connection: &Connection,
    link: bool,
) -> (CloseCode, String) {
    // asked for before the first judgement, so that no change is missed
    let mut changes = bundles.changes();
    let Some(chain) = peer_chain(connection) else { return std::future::pending().await };
    let standing = match bundles.standing(&chain) {
        Ok(standing) => standing,
        Err(error) => return refusal(&error).unwrap_or((CloseCode::WrongIdentity, error.to_string())),
    };
    loop {
        if let Err(error) = bundles.judge(&standing)
            && let Some(refused) = refusal(&error).filter(|(code, _)| !link || *code == CloseCode::Revoked)
        {
            return refused;
        }
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// How a connection is closed whose peer is refused for `error`; nothing where it stays.
fn refusal(error: &VerifyError) -> Option<(CloseCode, String)> {
    let code = match error {
        VerifyError::BadSignature { .. } => return None,
        VerifyError::UnknownTrustDomain { .. } => CloseCode::NotLinked,
        _ => CloseCode::Revoked,
    };
    // the peer reads it: it is told nothing of whom else this gateway believes
    let message = match error {
        VerifyError::UnknownTrustDomain { id, .. } => format!("the link to the cluster of {id} was removed"),
        error => error.to_string(),
    };
    Some((code, message))
}
