//! `/v1/ca` and `/v1/revocations`: whom the cluster trusts.

use super::api::{Ca, CaRoot, Revocation, Revoke, Rotate, Rotated};
use super::error::ApiError;
use super::extract::{Actor, Ask, Body, Segment, parse};
use super::{change, make};
use crate::authority::{self, Awaited, DEFAULT_KEEP_SECS};
use crate::hub::{Hub, root_id};
use axum::Json;
use axum::extract::State;
use causeway_catalog::{ActivateRoot, CaState, DropRoot, Refusal, Reinstate, Revoked};
use causeway_identity::{CertificateDer, OperatorCa, SVID_TTL, certificate_pem, fingerprint, not_after};
use causeway_model::{RevokedSubject, SpiffeId, TrustDomain, WorkloadId};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

/// For how much longer than an SVID lives a revocation is kept: clocks differ.
const SLACK: Duration = Duration::from_secs(3600);
/// The longest time that an older root may be kept, in seconds: 90 days.
const MAX_KEEP_SECS: u64 = 90 * 24 * 3600;

pub(super) async fn show(State(hub): State<Hub>) -> Result<Json<Ca>, ApiError> {
    let catalog = hub.catalog();
    let cluster = catalog.cluster().ok_or(Refusal::NotInitialised)?;
    let ca = &cluster.ca;
    let in_use = hub.roots_in_use(Instant::now());
    let roots = ca.roots.iter().enumerate().map(|(index, der)| {
        let id = fingerprint(der);
        CaRoot {
            fingerprint: HEXLOWER.encode(&id),
            state: state(ca, index, der).to_owned(),
            in_use: in_use.contains(&root_id(&id)),
            not_after: not_after(&[CertificateDer::from(der.as_slice())]).ok().map(super::status::unix),
            pem: certificate_pem(der),
        }
    });
    let waits_for = authority::awaited(&hub, &catalog, Instant::now());
    Ok(Json(Ca {
        trust_domain: cluster.facts.trust_domain.to_string(),
        roots: roots.collect(),
        intermediates: ca.chain.iter().map(|der| HEXLOWER.encode(&fingerprint(der))).collect(),
        activated_at: ca.activated_at,
        rotating: ca.staged.is_some() || ca.roots.len() > 1,
        waits_for: waits_for.iter().map(awaited).collect(),
        warning: hub.ca().ok().and_then(|ca| ca.warning(SystemTime::now())),
    }))
}

fn state(ca: &CaState, index: usize, der: &[u8]) -> &'static str {
    if index == ca.active_root {
        "signing"
    } else if ca.staged.as_ref().is_some_and(|staged| staged.root_der == der) {
        "announced"
    } else {
        "kept"
    }
}

fn awaited(awaited: &Awaited) -> String {
    match awaited {
        Awaited::Members => {
            "gateways of this cluster, and their sidecars, to take the announced root".to_owned()
        }
        Awaited::Cluster(name) => format!("everybody in cluster {name} to take the announced root"),
        Awaited::Renewals => "gateways and sidecars to renew what an older root has signed".to_owned(),
        Awaited::Time(until) => format!("the end of the time that the older root is kept, unix time {until}"),
    }
}

pub(super) async fn rotate(
    State(hub): State<Hub>,
    actor: Actor,
    Body(request): Body<Rotate>,
) -> Result<Json<Rotated>, ApiError> {
    let keep = request.keep_seconds.unwrap_or(DEFAULT_KEEP_SECS);
    if keep > MAX_KEEP_SECS {
        return Err(ApiError::invalid(
            "keep_seconds",
            format!("{keep} is more than {MAX_KEEP_SECS}, which is 90 days"),
        ));
    }
    let own = match (&request.certificates, &request.key) {
        (Some(certificates), Some(key)) => Some(
            OperatorCa::from_pem(certificates, key).map_err(|error| ApiError::of(error.reason(), error))?,
        ),
        (None, None) => None,
        _ => {
            return Err(ApiError::invalid(
                "certificates",
                "a certificate authority of your own needs both its certificates and its key",
            ));
        }
    };
    let root = authority::rotate(&hub, &actor.0, own, keep)
        .await
        .map_err(|error| ApiError::of(error.reason(), error))?;
    let root = HEXLOWER.encode(&root);
    tracing::warn!(root, by = actor.0, "a new root is announced");
    Ok(Json(Rotated { root }))
}

/// Ends the announcement at once, though not everybody has the root.
pub(super) async fn activate(State(hub): State<Hub>, actor: Actor) -> Result<Json<Value>, ApiError> {
    let catalog = hub.catalog();
    let staged =
        catalog.cluster().and_then(|cluster| cluster.ca.staged.clone()).ok_or(Refusal::RootNotStaged)?;
    change(&hub, &actor, ActivateRoot { root_der: staged.root_der }).await?;
    Ok(Json(json!({})))
}

pub(super) async fn drop_root(
    State(hub): State<Hub>,
    actor: Actor,
    Segment(root): Segment,
) -> Result<Json<Value>, ApiError> {
    let catalog = hub.catalog();
    let roots = catalog.cluster().map(|cluster| cluster.ca.roots.as_slice()).unwrap_or_default();
    let wanted =
        HEXLOWER_PERMISSIVE.decode(root.as_bytes()).map_err(|error| ApiError::invalid("root", error))?;
    if wanted.len() < 4 {
        return Err(ApiError::invalid(
            "root",
            format!("{root} is too short: give 8 digits of the fingerprint, or all 64"),
        ));
    }
    let mut found = roots.iter().filter(|der| fingerprint(der).starts_with(&wanted));
    let (Some(root_der), None) = (found.next(), found.next()) else {
        return Err(Refusal::RootUnknown.into());
    };
    change(&hub, &actor, DropRoot { root_der: root_der.clone() }).await?;
    Ok(Json(json!({})))
}

pub(super) async fn revocations(State(hub): State<Hub>) -> Json<Vec<Revocation>> {
    Json(hub.catalog().revoked().map(shown).collect())
}

fn shown(revoked: &Revoked) -> Revocation {
    Revocation {
        subject: revoked.revocation.subject.to_string(),
        issued_before: revoked.revocation.issued_before,
        ends_at: revoked.ends_at,
        by: revoked.by.clone(),
    }
}

pub(super) async fn revoke(
    State(hub): State<Hub>,
    actor: Actor,
    Body(request): Body<Revoke>,
) -> Result<Json<Vec<Revocation>>, ApiError> {
    let subjects: BTreeSet<RevokedSubject> = match (&request.identity, &request.key, &request.workload) {
        (Some(identity), None, None) => {
            [RevokedSubject::Identity(whole(&hub.node.cluster().trust_domain, identity)?)].into()
        }
        (None, Some(key), None) => [parse("key", key)?].into(),
        (None, None, Some(workload)) => keys_of(&hub, parse("workload", workload)?)?,
        _ => return Err(ApiError::invalid("revocation", "name one of identity, key and workload")),
    };
    let ends_at = causeway_runtime::clock::unix_now() + (SVID_TTL + SLACK).as_secs();
    let asked = causeway_catalog::Revoke { subjects: subjects.clone(), ends_at };
    let command = crate::hub::command(&actor.0, asked);
    let (issued_before, by) = (command.at, command.by.clone());
    make(&hub, command).await?;
    for subject in &subjects {
        tracing::warn!(%subject, by, "certificates are revoked");
    }
    // not what this replica has, which may lag behind: the revocation stands, and nobody needs to be asked whether it does
    let made = |subject| {
        let revocation = causeway_model::Revocation { subject, issued_before };
        shown(&Revoked { revocation, ends_at, by: by.clone() })
    };
    Ok(Json(subjects.into_iter().map(made).collect()))
}

/// An identity as a SPIFFE ID, or as NAMESPACE/ACCOUNT.
fn whole(domain: &TrustDomain, identity: &str) -> Result<SpiffeId, ApiError> {
    match identity.split_once('/') {
        Some((namespace, account)) if !identity.contains(':') => {
            Ok(SpiffeId::workload(domain, &parse("namespace", namespace)?, &parse("account", account)?))
        }
        _ => parse("identity", identity),
    }
}

/// The keys of the SVIDs that a live workload has: that of the newest, and of those before, with which its connections may have been made.
fn keys_of(hub: &Hub, workload: WorkloadId) -> Result<BTreeSet<RevokedSubject>, ApiError> {
    let keys = hub.soft().presence.svid_keys(workload);
    if keys.is_empty() {
        let message = format!(
            "no live workload {workload} is known here: list them with `causeway workloads`, or revoke its identity"
        );
        return Err(ApiError::new(axum::http::StatusCode::NOT_FOUND, "workload-unknown", message));
    }
    Ok(keys.into_iter().map(RevokedSubject::Key).collect())
}

/// What a request to take back a revocation names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whom {
    subject: String,
}

pub(super) async fn reinstate(
    State(hub): State<Hub>,
    actor: Actor,
    Ask(whom): Ask<Whom>,
) -> Result<Json<Value>, ApiError> {
    let subject: RevokedSubject = parse("subject", &whom.subject)?;
    change(&hub, &actor, Reinstate { subject: subject.clone() }).await?;
    tracing::warn!(%subject, by = actor.0, "a revocation is taken back");
    Ok(Json(json!({})))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::fixture::Fixture;
    use causeway_presence::Row;

    #[test]
    fn an_identity_may_be_written_short() {
        let domain: TrustDomain = "iad.mesh".parse().unwrap();
        let id = "spiffe://iad.mesh/ns/shop/sa/payments";
        assert_eq!(whole(&domain, "shop/payments").unwrap().to_string(), id);
        assert_eq!(whole(&domain, id).unwrap().to_string(), id);
        for bad in ["payments", "Shop/payments", "shop/"] {
            assert!(whole(&domain, bad).is_err(), "{bad}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_workload_is_revoked_with_every_key_that_it_has_and_its_probes_do_not_keep_it() {
        let fixture = Fixture::start().await;
        let hub = &fixture.hub;
        let row = |workload: u64, keys: [u8; 2]| Row {
            workload: WorkloadId(workload),
            identity: format!("spiffe://{}/ns/shop/sa/a", hub.node.cluster().trust_domain).parse().unwrap(),
            services: Vec::new(),
            locality: hub.node.locality().clone(),
            weight: 1,
            overlay: Vec::new(),
            release: "1.0.0".into(),
            svid_key: [keys[0]; 32],
            older_keys: Box::new([[keys[1]; 32]]),
            seq: 0,
            attached: true,
        };
        // its control connections are with other gateways, and its probes come here; another one shares its oldest key
        for row in [row(7, [2, 1]), row(8, [3, 1])] {
            let workload = row.workload;
            hub.attach(row).unwrap();
            hub.soft().presence.handle_detach(Instant::now(), workload);
        }
        let asked = Revoke { workload: Some(WorkloadId(7).to_string()), ..Revoke::default() };
        let answer = revoke(State(hub.clone()), Actor("test".into()), Body(asked)).await;
        let Json(made) = answer.unwrap_or_else(|error| panic!("{error:?}"));
        let known = revocations(State(hub.clone())).await.0;
        assert_eq!(serde_json::to_value(&made).unwrap(), serde_json::to_value(known).unwrap());
        let subjects: Vec<String> = made.into_iter().map(|made| made.subject).collect();
        assert_eq!(subjects, ["01", "02"].map(|byte| format!("key:{}", byte.repeat(32))));
        let began = Instant::now();
        while hub.is_alive(WorkloadId(7)) {
            assert!(began.elapsed() < Duration::from_secs(2), "its probes keep it alive");
            hub.seen(WorkloadId(7));
            hub.seen(WorkloadId(8));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(hub.is_alive(WorkloadId(8)), "it has a key that is good");
        let asked = Revoke { workload: Some(WorkloadId(7).to_string()), ..Revoke::default() };
        let unknown = revoke(State(hub.clone()), Actor("test".into()), Body(asked)).await.unwrap_err();
        assert_eq!(unknown.problem.reason, "workload-unknown");
        fixture.stop().await;
    }
}
