//! Before a sidecar is attached: it joins with a token, renews, and gets the workload id and keys of its start.

use super::limits::Limits;
use super::{Metered, Out, SessionError, refusal};
use crate::hub::Hub;
use causeway_catalog::{Catalog, Outcome, Revoked, Token, TokenKind, TokenUser, UseToken};
use causeway_identity::{
    CertificateDer, ClusterCa, SVID_TTL, VerifyError, issued_at, not_after, request_key_id,
};
use causeway_model::{RevokedSubject, SpiffeId, WorkloadId};
use causeway_store::ProposeError;
use causeway_transport::{Connection, FrameReader, exporter};
use causeway_wire::ctl::{Attach, Attached, Issued, Join, Renew, ToGateway};
use causeway_wire::token::{EXPORTER_LABEL, token_id_text, verify_join_proof};
use causeway_wire::view::Refusal;
use std::time::{Duration, Instant, SystemTime};

/// The longest certificate request, in bytes.
const MAX_CSR: usize = 8192;

/// A sidecar without a certificate: it may join, once.
pub(super) async fn join(
    hub: &Hub,
    connection: &Connection,
    out: &mut Out,
    input: &mut FrameReader,
) -> Result<(), SessionError> {
    match next(input).await? {
        Some(ToGateway::Join(join)) => match issue_by_token(hub, connection, &join).await {
            Ok(issued) => out.send(issued).await,
            Err(refused) => {
                tracing::warn!(
                    token = token_id_text(&join.token),
                    remote = %connection.remote_address(),
                    reason = refused.reason,
                    "a sidecar may not join: {}",
                    refused.message
                );
                out.send(refused).await
            }
        },
        Some(_) => {
            out.send(refusal(0, "no-certificate", "a connection without an SVID may only join with a token"))
                .await
        }
        None => Ok(()),
    }
}

/// A sidecar with an SVID that has no instance yet: it may renew, and attach.
pub(super) async fn attach(
    hub: &Hub,
    connection: &Connection,
    identity: &SpiffeId,
    out: &mut Out,
    metered: &mut Metered,
) -> Result<(), SessionError> {
    let mut limits = Limits::new();
    while let Some(message) = next(&mut metered.input).await? {
        let now = Instant::now();
        if limits.charge(now, &message, 0) {
            metered.meter.delayed();
        }
        match message {
            ToGateway::Renew(request) => match renew(hub, connection, identity, &request).await {
                Ok(issued) => out.send(issued).await?,
                Err(refused) => out.send(refused).await?,
            },
            ToGateway::Attach(attach) => {
                return match hub.mint_workload(identity).map(|workload| attached(hub, workload, &attach)) {
                    Some(Ok(attached)) => out.send(attached).await,
                    Some(Err(refused)) => out.send(refused).await,
                    None => out.send(not_ready(hub, &attach)).await,
                };
            }
            _ => {
                let message = "a connection without a workload id may only renew and attach";
                return out.send(refusal(0, "not-attached", message)).await;
            }
        }
        if let Some(resume) = limits.resume_at(now) {
            tokio::select! {
                () = tokio::time::sleep_until(resume.into()) => {}
                _ = connection.closed() => return Ok(()),
            }
        }
    }
    Ok(())
}

fn not_ready(hub: &Hub, attach: &Attach) -> Refusal {
    let node = hub.node.id();
    let message = format!("gateway {node} has not got its cluster's registry yet: try again in a moment");
    refusal(attach.request, "not-ready", message)
}

/// What an instance needs to take part: keys and gateways.
pub(super) fn attached(hub: &Hub, workload: WorkloadId, attach: &Attach) -> Result<Attached, Refusal> {
    let probe_key = hub.probe_secret(workload).ok_or_else(|| not_ready(hub, attach))?;
    let (cid_keys, gateways) = (hub.cid_secrets(), hub.gateways());
    Ok(Attached { request: attach.request, workload, cid_keys, probe_key, gateways })
}

async fn next(input: &mut FrameReader) -> Result<Option<ToGateway>, SessionError> {
    tokio::time::timeout(super::PATIENCE, input.next())
        .await
        .map_err(|_| SessionError::Slow)?
        .map_err(Into::into)
}

async fn issue_by_token(hub: &Hub, connection: &Connection, join: &Join) -> Result<Issued, Refusal> {
    let refuse = |reason: &str, message: String| refusal(join.request, reason, message);
    let told = |(reason, message): Told| refuse(&reason, message);
    let shown = Shown { id: join.token, proof: &join.proof, csr: &join.csr };
    let token = prove(hub, connection, shown).await.map_err(told)?;
    // a gateway that cannot sign must not use the token up
    let ca = hub.ca().map_err(|error| refuse("cannot-sign", error.to_string()))?;
    // who lost the answer asks again with the same key, and uses nothing up
    let key = request_key_id(&join.csr).map_err(|error| refuse(error.reason(), error.to_string()))?;
    let user = TokenUser::Workload(WorkloadId(key));
    let TokenKind::Workload { identity, .. } = spend(hub, &token, user).await.map_err(told)? else {
        return Err(refuse("token-wrong-kind", "the token is not for a workload".into()));
    };
    sign(hub, &ca, join.request, &join.csr, &identity)
}

/// Why a token gives nothing: the stable word, and the message.
type Told = (String, String);

/// What a stranger shows.
#[derive(Clone, Copy)]
pub(crate) struct Shown<'a> {
    pub(crate) id: [u8; 8],
    pub(crate) proof: &'a [u8; 32],
    pub(crate) csr: &'a [u8],
}

/// The token whose secret the stranger proves to know. Nothing that it sent is parsed before that, nor is anything signed: a
/// stranger makes a gateway compute two hashes.
pub(crate) async fn prove(hub: &Hub, connection: &Connection, shown: Shown<'_>) -> Result<Token, Told> {
    let Shown { id, proof, csr } = shown;
    if csr.len() > MAX_CSR {
        return Err((
            "csr-too-large".into(),
            format!("the certificate request has {} bytes, at most {MAX_CSR}", csr.len()),
        ));
    }
    let bound = exporter(connection, EXPORTER_LABEL, b"")
        .map_err(|error| ("internal".to_owned(), error.to_string()))?;
    let catalog = hub.catalog();
    // what this replica has may lag behind: a token that was made a moment ago is looked up at the leader
    let token: Token = match catalog.token(id.into()) {
        Some(token) => token.clone(),
        None => {
            let current = hub.registry.current().await.map_err(|error| failed(&error))?;
            current.token(id.into()).cloned().ok_or_else(|| unknown(hub, &id))?
        }
    };
    let verifier = hub
        .node
        .mask_verifier(&id, token.verifier.0)
        .map_err(|error| ("cannot-sign".to_owned(), error.to_string()))?;
    if !verify_join_proof(&verifier, &bound, csr, proof) {
        return Err(unknown(hub, &id));
    }
    Ok(token)
}

/// Uses a proven token once. What the registry would refuse is not proposed: a refused command is written to every disk of the
/// cluster and to its audit as well, and who holds a spent token could do that as often as it likes. Nor is a use repeated
/// there.
pub(crate) async fn spend(hub: &Hub, token: &Token, user: TokenUser) -> Result<TokenKind, Told> {
    let told = |refusal: causeway_catalog::Refusal| (refusal.reason().to_owned(), refusal.to_string());
    let (id, now) = (token.id, causeway_runtime::clock::unix_now());
    let usable = token.check_for(user, now);
    if hub.catalog().used_by(id, user) || matches!(usable, Err(causeway_catalog::Refusal::TokenUsedUp { .. }))
    {
        // by this very user perhaps. The leader knows, and whether the token was revoked meanwhile
        let current = hub.registry.current().await.map_err(|error| failed(&error))?;
        let token = current.token(id).ok_or_else(|| unknown(hub, &id.0))?;
        if current.used_by(id, user) {
            return token.check_again(user, now).map(|()| token.kind.clone()).map_err(told);
        }
        token.check_for(user, now).map_err(told)?;
    } else {
        usable.map_err(told)?;
    }
    let used = hub.propose("token holder", UseToken { id, user }).await;
    match used.map(|proposed| proposed.outcome) {
        Ok(Outcome::Token { kind }) => Ok(kind),
        Ok(_) => Err(("internal".into(), "the registry answered something else".into())),
        Err(error) => Err(failed(&error)),
    }
}

fn unknown(hub: &Hub, id: &[u8; 8]) -> Told {
    let (text, cluster) = (token_id_text(id), &hub.node.cluster().name);
    let message = format!(
        "token {text} is not known to cluster {cluster}, or its secret is wrong: make a new one with `causeway token create`"
    );
    ("token-unknown".to_owned(), message)
}

fn failed(error: &ProposeError) -> Told {
    (error.reason().to_owned(), error.to_string())
}

/// An SVID that ends sooner than this part of its life is renewed though nobody knows whether it was revoked a moment ago.
const LAST_PART: u32 = 6;

/// Issues a new SVID of the identity that the old one has.
pub(super) async fn renew(
    hub: &Hub,
    connection: &Connection,
    identity: &SpiffeId,
    renew: &Renew,
) -> Result<Issued, Refusal> {
    if renew.csr.len() > MAX_CSR {
        let message = format!("the certificate request has {} bytes, at most {MAX_CSR}", renew.csr.len());
        return Err(refusal(renew.request, "csr-too-large", message));
    }
    let refuse = |(reason, message): Told| refusal(renew.request, &reason, message);
    let chain = causeway_transport::peer_chain(connection).unwrap_or_default();
    check_good(hub, &chain).await.map_err(refuse)?;
    let ca = hub.ca().map_err(|error| refusal(renew.request, "cannot-sign", error.to_string()))?;
    sign(hub, &ca, renew.request, &renew.csr, identity)
}

/// Refuses a revoked SVID: with a new one its holder would leave the revocation behind. This replica may not have heard of it yet, so
/// the leader is asked, too. Without a leader nothing is revoked either, and what was a moment ago is overlooked only when the
/// SVID is about to end.
async fn check_good(hub: &Hub, chain: &[CertificateDer<'_>]) -> Result<(), Told> {
    let refused = |error: VerifyError| (error.reason().to_owned(), error.to_string());
    let standing = hub.node.bundles().standing(chain).map_err(refused)?;
    match hub.registry.current().await {
        Ok(current) => {
            let revoked = current.revoked().any(|revoked| match &revoked.revocation.subject {
                RevokedSubject::Identity(id) => {
                    id == standing.id() && standing.issued() <= revoked.revocation.issued_before
                }
                RevokedSubject::Key(key) => key == standing.key(),
            });
            let issued_before = standing.issued();
            if revoked {
                Err(refused(VerifyError::Revoked { id: standing.id().clone(), issued_before }))
            } else {
                Ok(())
            }
        }
        Err(_) if ends_soon(chain, SystemTime::now()) => Ok(()),
        Err(error) => Err(failed(&error)),
    }
}

/// Whether the SVID is in the last part of its life.
fn ends_soon(chain: &[CertificateDer<'_>], now: SystemTime) -> bool {
    let (Ok(from), Ok(until)) = (issued_at(chain), not_after(chain)) else { return false };
    let life = until.duration_since(from).unwrap_or_default();
    until.duration_since(now).unwrap_or_default() < life / LAST_PART
}

/// When a certificate of `identity` counts as issued: after the revocation of older ones, though this clock may lag.
fn issue_time(catalog: &Catalog, identity: &SpiffeId) -> SystemTime {
    let of = |revoked: &&Revoked| matches!(&revoked.revocation.subject, RevokedSubject::Identity(id) if id == identity);
    let after =
        catalog.revoked().find(of).map_or(0, |revoked| revoked.revocation.issued_before.saturating_add(1));
    SystemTime::now().max(SystemTime::UNIX_EPOCH + Duration::from_secs(after))
}

fn sign(hub: &Hub, ca: &ClusterCa, request: u32, csr: &[u8], identity: &SpiffeId) -> Result<Issued, Refusal> {
    let chain = ca
        .sign_svid(csr, identity, issue_time(&hub.catalog(), identity), SVID_TTL)
        .map_err(|error| refusal(request, error.reason(), error.to_string()))?;
    tracing::info!(%identity, "SVID issued");
    Ok(Issued { request, chain, bundle: hub.own_bundle(&hub.catalog()) })
}
