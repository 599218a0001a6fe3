//! The certificate authority over time: a rotation, step by step, by the gateway that leads the registry.
//!
//! 1. *Announced*: the new root is in every trust bundle and signs nothing. It begins to sign when every gateway and sidecar of this
//!    cluster has it, and every linked cluster has said that all of its own have.
//! 2. *Signing*: gateways sign themselves new SVIDs, and sidecars are asked to renew theirs, spread over some time.
//! 3. *Kept*: nobody who is connected has a certificate of the old root any more. It stays trusted for as long as the operator
//!    said, for those who are away, and is dropped.

use crate::hub::{Hub, RootId, root_id};
use crate::node::NodeError;
use crate::siblings::Settled;
use causeway_catalog::{ActivateRoot, CaState, Catalog, DropRoot, Link, StageRoot};
use causeway_identity::{ClusterCa, IdentityError, OperatorCa, fingerprint};
use causeway_store::ProposeError;
use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

/// How often the leader looks whether the next step can be made.
const EVERY: Duration = Duration::from_millis(250);
/// How many SVIDs a second a gateway is willing to sign for its sidecars when all of them renew.
const SIGN_RATE: u32 = 200;
/// The least time over which sidecars are asked to spread their renewals.
const LEAST_SPREAD: Duration = Duration::from_millis(500);
/// For how long a root stays trusted after its last certificate was replaced, unless the operator says otherwise, in seconds: a
/// workload that is stopped meanwhile has an SVID for a day.
pub(crate) const DEFAULT_KEEP_SECS: u64 = 25 * 3600;

/// Why a rotation did not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotateError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("the new certificate authority: {0}")]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

impl RotateError {
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Node(_) => "cannot-sign",
            Self::Identity(error) => error.reason(),
            Self::Propose(error) => error.reason(),
        }
    }
}

/// Announces a new root: one that is made here, or the operator's own.
pub(crate) async fn rotate(
    hub: &Hub,
    by: &str,
    own: Option<OperatorCa>,
    keep_secs: u64,
) -> Result<[u8; 32], RotateError> {
    let (ca, domain, now) = (hub.catalog(), hub.node.cluster().trust_domain.clone(), SystemTime::now());
    if let Some(staged) = ca.cluster().and_then(|cluster| cluster.ca.staged.as_ref()) {
        let refusal = causeway_catalog::Refusal::RotationUnderWay { since: staged.at };
        return Err(ProposeError::from(refusal).into());
    }
    let (root_der, chain, key) = match own {
        Some(own) => {
            // checks that all of it fits together and is good for this trust domain
            ClusterCa::from_chain(&domain, own.chain.clone(), own.key.clone(), own.root.clone(), now)?;
            (own.root, own.chain, own.key.pkcs8())
        }
        None => {
            let made = ClusterCa::create(&domain, now)?;
            (made.root_der().to_vec(), Vec::new(), made.export_key())
        }
    };
    let sealed_key = hub.node.seal_ca_key(&key)?;
    let root = fingerprint(&root_der);
    hub.propose(by, StageRoot { root_der, chain, sealed_key, keep_secs }).await?;
    Ok(root)
}

/// What a rotation waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// A gateway of this cluster, or sidecars of one, do not have the announced root yet, or did not a moment ago.
    Members,
    /// Not everybody in a linked cluster has it.
    Cluster(String),
    /// Somebody who is connected still has a certificate of an older root.
    Renewals,
    /// The time for which an older root is kept, until this time in seconds since the Unix epoch.
    Time(u64),
}

/// What the rotation under way waits for; nothing when none is.
pub(crate) fn awaited(hub: &Hub, catalog: &Catalog, now: Instant) -> Vec<Awaited> {
    let Some(ca) = catalog.cluster().map(|cluster| &cluster.ca) else { return Vec::new() };
    if ca.staged.is_some() {
        let members = (!hub.have_taken(now, ca.roots_changed)).then_some(Awaited::Members);
        let clusters = unconfirmed(catalog, ca).map(|link| Awaited::Cluster(link.peer.name.to_string()));
        return members.into_iter().chain(clusters).collect();
    }
    if ca.roots.len() < 2 {
        return Vec::new();
    }
    let renewals = !only_active(ca, &hub.roots_in_use(now));
    let until = ca.activated_at.saturating_add(ca.keep_secs);
    let time = (until > causeway_runtime::clock::unix_now()).then_some(Awaited::Time(until));
    renewals.then_some(Awaited::Renewals).into_iter().chain(time).collect()
}

/// The linked clusters that have not taken the present list of roots.
fn unconfirmed<'a>(catalog: &'a Catalog, ca: &'a CaState) -> impl Iterator<Item = &'a Link> {
    catalog.links().filter(|link| link.confirmed < ca.roots_changed)
}

/// Whether the root that signs is the only one in use.
fn only_active(ca: &CaState, in_use: &BTreeSet<RootId>) -> bool {
    let active = ca.active_root_der().map(|root| root_id(&fingerprint(root)));
    in_use.iter().all(|root| Some(*root) == active)
}

/// Makes the steps of a rotation until the process stops.
pub(crate) async fn keep(hub: Hub) {
    let stop = hub.tasks.token();
    let (mut announced, mut unused) = (Settled::default(), Settled::default());
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
        let catalog = hub.catalog();
        let leads = hub.registry.status().leader == Some(hub.node.id());
        let Some(ca) = catalog.cluster().map(|cluster| &cluster.ca).filter(|_| leads) else { continue };
        let waits = awaited(&hub, &catalog, Instant::now());
        let (now, ready) = (Instant::now(), waits.is_empty());
        let stepped = match &ca.staged {
            Some(staged) if announced.observe(now, ready) => {
                tracing::info!(
                    "every gateway, sidecar and linked cluster has the announced root: it signs from now on"
                );
                announced = Settled::default();
                hub.propose("rotation", ActivateRoot { root_der: staged.root_der.clone() }).await
            }
            None if unused.observe(now, ready && ca.roots.len() > 1) => {
                let Some(old) = old_root(ca) else { continue };
                tracing::info!("nobody uses the older root any more: it is dropped");
                unused = Settled::default();
                hub.propose("rotation", DropRoot { root_der: old }).await
            }
            _ => continue,
        };
        if let Err(error) = stepped {
            tracing::warn!(reason = error.reason(), "the rotation of roots makes no progress: {error}");
        }
    }
}

/// A root that does not sign.
fn old_root(ca: &CaState) -> Option<Vec<u8>> {
    ca.roots.iter().enumerate().find(|(index, _)| *index != ca.active_root).map(|(_, root)| root.clone())
}

/// The root that signs, if a certificate of `root` is to be renewed for it.
pub(crate) fn renew_for(catalog: &Catalog, root: RootId) -> Option<RootId> {
    let active = root_id(&fingerprint(catalog.cluster()?.ca.active_root_der()?));
    (active != root).then_some(active)
}

/// Over which time `sidecars` are to spread their renewals.
pub(crate) fn spread(sidecars: usize) -> Duration {
    let seconds = u32::try_from(sidecars).unwrap_or(u32::MAX) / SIGN_RATE;
    LEAST_SPREAD.max(Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca(roots: &[&[u8]], active_root: usize) -> CaState {
        CaState {
            roots: roots.iter().map(|root| root.to_vec()).collect(),
            active_root,
            chain: Vec::new(),
            sealed_key: Vec::new(),
            staged: None,
            roots_changed: Default::default(),
            activated: Default::default(),
            activated_at: 0,
            keep_secs: 0,
        }
    }

    #[test]
    fn an_older_root_goes_only_when_nobody_has_a_certificate_of_it() {
        let ca = ca(&[b"new", b"old"], 0);
        let id = |root: &[u8]| root_id(&fingerprint(root));
        assert!(only_active(&ca, &[id(b"new")].into()));
        assert!(!only_active(&ca, &[id(b"new"), id(b"old")].into()));
        assert!(!only_active(&ca, &[[0; 8]].into()), "of whom it is not known counts as old");
        assert_eq!(old_root(&ca), Some(b"old".to_vec()));
    }

    #[test]
    fn many_sidecars_renew_over_a_longer_time() {
        assert_eq!(spread(0), Duration::from_millis(500));
        assert_eq!(spread(50_000), Duration::from_secs(250));
    }
}
