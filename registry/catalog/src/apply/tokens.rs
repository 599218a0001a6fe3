//! Join tokens.

use crate::bound::MAX_LAST_USES;
use crate::catalog::{Context, Effect, done};
use crate::{
    Bound, Catalog, CreateToken, Event, Outcome, Refusal, ServiceDeclaration, Token, TokenId, TokenKind,
    UseToken,
};
use causeway_model::{SpiffeId, SpiffeRole};
use std::collections::BTreeSet;

impl Catalog {
    pub(crate) fn create_token(&mut self, context: Context<'_>, c: &CreateToken) -> Result<Effect, Refusal> {
        self.own()?;
        if self.tokens.contains_key(&c.id) {
            return Err(Refusal::TokenExists { id: c.id });
        }
        if c.uses == 0 {
            return Err(Refusal::invalid("uses of a token", "0", "a token is used at least once"));
        }
        check_expiry("expiry of a token", c.expires_at, context.at)?;
        if let TokenKind::Workload { identity, services } = &c.kind {
            self.check_grant(identity, services)?;
        }
        self.make_room_for_token(context.at)?;

        let mut events = vec![Event::TokensChanged];
        if let TokenKind::Workload { identity, services } = &c.kind {
            for declaration in services {
                events.extend(self.grant(context, identity, declaration));
            }
        }
        self.purge_after(c.expires_at);
        // another token may have had its number, and was purged
        self.last_uses.retain(|(id, _)| *id != c.id);
        self.tokens.insert(c.id, new_token(context, c));
        Ok((Outcome::Done, events))
    }

    /// Refuses a workload token whose identity is not ours to give, or whose services cannot be declared.
    fn check_grant(&self, identity: &SpiffeId, services: &[ServiceDeclaration]) -> Result<(), Refusal> {
        let own = &self.own()?.trust_domain;
        if identity.trust_domain() != own {
            return Err(Refusal::IdentityForeign { identity: identity.clone(), own: own.clone() });
        }
        if !matches!(identity.role(), SpiffeRole::Workload { .. }) {
            return Err(Refusal::IdentityNotAWorkload { identity: identity.clone() });
        }
        Bound::TokenServices.check(services.len())?;
        let mut names = BTreeSet::new();
        for declaration in services {
            if !names.insert(&declaration.name) {
                let name = declaration.name.to_string();
                return Err(Refusal::invalid("services of a token", &name, "declare each service once"));
            }
            self.check_declaration(identity, declaration)?;
        }
        let new = names.iter().filter(|name| !self.services.contains_key(**name)).count();
        Bound::Services.check(self.services.len() + new)
    }

    /// Refuses another token when there are too many, after giving up those that cannot be used any more.
    fn make_room_for_token(&mut self, at: u64) -> Result<(), Refusal> {
        if self.tokens.len() >= Bound::Tokens.limit() {
            self.tokens.retain(|_, token| token.check(at).is_ok());
        }
        Bound::Tokens.check(self.tokens.len() + 1)
    }

    pub(crate) fn use_token(&mut self, context: Context<'_>, c: &UseToken) -> Result<Effect, Refusal> {
        self.own()?;
        let used = self.used_by(c.id, c.user);
        let token = self.tokens.get_mut(&c.id).ok_or(Refusal::TokenUnknown { id: c.id })?;
        if used {
            // the answer was lost, and the same user asks again
            token.check_again(c.user, context.at)?;
            return Ok((Outcome::Token { kind: token.kind.clone() }, Vec::new()));
        }
        token.check_for(c.user, context.at)?;
        token.uses_left = token.uses_left.saturating_sub(1);
        while self.last_uses.len() >= MAX_LAST_USES {
            self.last_uses.pop_front();
        }
        self.last_uses.push_back((c.id, c.user));
        Ok((Outcome::Token { kind: token.kind.clone() }, vec![Event::TokensChanged]))
    }

    pub(crate) fn revoke_token(&mut self, id: TokenId) -> Result<Effect, Refusal> {
        self.own()?;
        let token = self.tokens.get_mut(&id).ok_or(Refusal::TokenUnknown { id })?;
        if token.revoked {
            return Ok(done([]));
        }
        token.revoked = true;
        Ok(done([Event::TokensChanged]))
    }
}

/// Refuses a token or invite that would be dead on arrival.
pub(crate) fn check_expiry(what: &str, expires_at: u64, at: u64) -> Result<(), Refusal> {
    if expires_at > at {
        return Ok(());
    }
    let value = format!("unix time {expires_at}");
    Err(Refusal::invalid(what, &value, &format!("name a time after now, which is unix time {at}")))
}

fn new_token(context: Context<'_>, c: &CreateToken) -> Token {
    Token {
        id: c.id,
        verifier: c.verifier,
        kind: c.kind.clone(),
        uses_left: c.uses,
        expires_at: c.expires_at,
        revoked: false,
        created_at: context.at,
        created_by: context.by.to_owned(),
    }
}
