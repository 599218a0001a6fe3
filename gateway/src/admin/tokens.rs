//! `/v1/tokens`: join tokens and link invites, as one list.

use super::api::{CreateToken, CreatedToken, Token};
use super::change;
use super::error::ApiError;
use super::extract::{Actor, Body, Segment, parse};
use crate::hub::Hub;
use crate::tokens::{Fresh, TokenFault, addresses, mint, plan};
use axum::Json;
use axum::extract::State;
use causeway_catalog::{
    Catalog, Invite, InviteId, Refusal, RevokeInvite, RevokeToken, ServiceDeclaration, TokenId, TokenKind,
};
use causeway_store::ProposeError;
use serde_json::{Value, json};

pub(super) async fn create(
    State(hub): State<Hub>,
    actor: Actor,
    Body(request): Body<CreateToken>,
) -> Result<Json<CreatedToken>, ApiError> {
    let cluster = hub.cluster();
    let plan = plan(&request, &cluster.trust_domain)?;
    let fingerprint = {
        let catalog = hub.catalog();
        let root =
            catalog.cluster().and_then(|cluster| cluster.ca.active_root_der()).ok_or(TokenFault::NotReady)?;
        causeway_identity::fingerprint(root)
    };
    let gateways = addresses(hub.node.id(), &hub.gateways());
    let fresh =
        Fresh { id: rand::random(), secret: rand::random(), now: causeway_runtime::clock::unix_now() };
    let (token, mut command) = mint(&plan, &cluster, fingerprint, gateways, &fresh)?;
    let masked = hub.node.mask_verifier(&token.core.id, command.verifier.0);
    command.verifier = masked.map_err(|error| ApiError::of("not-ready", error))?.into();
    change(&hub, &actor, command).await?;
    tracing::info!(token = token.core.id_text(), role = request.role, by = actor.0, "join token created");
    Ok(Json(CreatedToken {
        id: token.core.id_text(),
        token: token.to_string(),
        expires_at: token.core.expires_at,
    }))
}

pub(super) async fn list(State(hub): State<Hub>) -> Json<Vec<Token>> {
    Json(tokens(&hub.catalog(), causeway_runtime::clock::unix_now()))
}

pub(super) async fn revoke(
    State(hub): State<Hub>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Value>, ApiError> {
    let id: TokenId = parse("token id", &id.to_ascii_lowercase())?;
    let invite = InviteId(id.0);
    let known_as_invite = {
        let catalog = hub.catalog();
        catalog.token(id).is_none() && catalog.invite(invite).is_some()
    };
    if known_as_invite {
        change(&hub, &actor, RevokeInvite { id: invite }).await?;
    } else {
        // this replica may not know it yet: then the leader says what it is
        let refused = match hub.propose(&actor.0, RevokeToken { id }).await {
            Ok(proposed) => {
                let _ = hub.registry.wait_applied(proposed.revision, super::CATCH_UP).await;
                None
            }
            Err(ProposeError::Refused(refusal @ Refusal::TokenUnknown { .. })) => Some(refusal),
            Err(error) => return Err(error.into()),
        };
        if let Some(refusal) = refused {
            change(&hub, &actor, RevokeInvite { id: invite })
                .await
                .map_err(|error| unknown(error, refusal))?;
        }
    }
    tracing::info!(token = %id, by = actor.0, "token revoked");
    Ok(Json(json!({})))
}

/// What is neither a token nor an invite is called an unknown token.
fn unknown(error: ApiError, refusal: Refusal) -> ApiError {
    if error.problem.reason == "invite-unknown" { refusal.into() } else { error }
}

/// All tokens and invites, oldest first.
fn tokens(catalog: &Catalog, now: u64) -> Vec<Token> {
    let joins = catalog.tokens().map(|token| (token.created_at, join_token(token, now)));
    let invites = catalog.invites().map(|invite| (invite.created_at, link_token(invite, now)));
    let mut all: Vec<(u64, Token)> = joins.chain(invites).collect();
    all.sort_by(|(a_at, a), (b_at, b)| (a_at, &a.id).cmp(&(b_at, &b.id)));
    all.into_iter().map(|(_, token)| token).collect()
}

fn join_token(token: &causeway_catalog::Token, now: u64) -> Token {
    let (role, identity, services) = match &token.kind {
        TokenKind::Workload { identity, services } => {
            ("workload".to_owned(), Some(identity.to_string()), services.iter().map(declared).collect())
        }
        TokenKind::Gateway { role } => (role.to_string(), None, Vec::new()),
    };
    Token {
        id: token.id.to_string(),
        role,
        identity,
        services,
        uses_left: token.uses_left,
        expires_at: token.expires_at,
        state: state(&token.check(now)),
    }
}

fn link_token(invite: &Invite, now: u64) -> Token {
    let verdict = invite.check(now);
    Token {
        id: invite.id.to_string(),
        role: "link".into(),
        identity: None,
        services: Vec::new(),
        uses_left: u32::from(!matches!(verdict, Err(Refusal::InviteUsed { .. }))),
        expires_at: invite.expires_at,
        state: state(&verdict),
    }
}

/// As `CreateToken` takes it.
fn declared(service: &ServiceDeclaration) -> String {
    if service.ports.is_empty() {
        service.name.to_string()
    } else {
        format!("{}:{}", service.name, service.ports)
    }
}

fn state(verdict: &Result<(), Refusal>) -> String {
    match verdict {
        Ok(()) => "valid",
        Err(Refusal::TokenRevoked { .. } | Refusal::InviteRevoked { .. }) => "revoked",
        Err(Refusal::TokenUsedUp { .. } | Refusal::InviteUsed { .. }) => "used-up",
        Err(_) => "expired",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_catalog::{InviteState, Verifier};
    use causeway_model::GatewayRole;

    fn token(kind: TokenKind) -> causeway_catalog::Token {
        causeway_catalog::Token {
            id: TokenId([1; 8]),
            verifier: Verifier([0; 32]),
            kind,
            uses_left: 2,
            expires_at: 2000,
            revoked: false,
            created_at: 1000,
            created_by: "operator".into(),
        }
    }

    #[test]
    fn a_token_is_shown_as_it_was_asked_for() {
        let ports = vec!["80/http".parse().unwrap()].try_into().unwrap();
        let services = vec![
            ServiceDeclaration { name: "payments.shop".parse().unwrap(), ports },
            ServiceDeclaration { name: "orders.shop".parse().unwrap(), ports: Default::default() },
        ];
        let identity = "spiffe://iad.mesh/ns/shop/sa/payments".parse().unwrap();
        let shown = join_token(&token(TokenKind::Workload { identity, services }), 1500);
        assert_eq!(shown.services, ["payments.shop:80/http", "orders.shop"]);
        assert_eq!((shown.role.as_str(), shown.state.as_str(), shown.uses_left), ("workload", "valid", 2));
        assert_eq!(
            (shown.id.as_str(), shown.identity.as_deref()),
            ("0101010101010101", Some("spiffe://iad.mesh/ns/shop/sa/payments"))
        );
    }

    #[test]
    fn every_state_has_its_word() {
        let kind = TokenKind::Gateway { role: GatewayRole::Forwarder };
        let fresh = token(kind);
        let word = |token: &causeway_catalog::Token, now| join_token(token, now).state;
        assert_eq!(word(&fresh, 2000), "expired");
        assert_eq!(word(&causeway_catalog::Token { uses_left: 0, ..fresh.clone() }, 1500), "used-up");
        assert_eq!(word(&causeway_catalog::Token { revoked: true, ..fresh.clone() }, 1500), "revoked");
        assert_eq!(join_token(&fresh, 1500).role, "forwarder");
        let invite = |state| Invite {
            id: InviteId([2; 8]),
            verifier: Verifier([0; 32]),
            for_cluster: None,
            expires_at: 2000,
            state,
            created_at: 1000,
            created_by: "operator".into(),
        };
        let shown = |state, now| {
            let token = link_token(&invite(state), now);
            (token.role, token.state, token.uses_left)
        };
        let row = |state: &str, left| ("link".to_owned(), state.to_owned(), left);
        assert_eq!(shown(InviteState::Open, 1500), row("valid", 1));
        assert_eq!(shown(InviteState::Open, 2500), row("expired", 1));
        assert_eq!(shown(InviteState::Used, 1500), row("used-up", 0));
        assert_eq!(shown(InviteState::Revoked, 1500), row("revoked", 1));
    }

    #[test]
    fn an_id_that_nobody_knows_is_an_unknown_token() {
        let refusal = || Refusal::TokenUnknown { id: TokenId([1; 8]) };
        let told = unknown(Refusal::InviteUnknown { id: InviteId([1; 8]) }.into(), refusal());
        assert_eq!((told.status.as_u16(), told.problem.reason.as_str()), (404, "token-unknown"));
        let used = unknown(Refusal::InviteUsed { id: InviteId([1; 8]) }.into(), refusal());
        assert_eq!(used.problem.reason, "invite-used");
    }
}
