//! Join tokens.

use crate::{Refusal, TokenId, TokenKind, TokenUser, Verifier};
use serde::{Deserialize, Serialize};

/// A join token, live or dead. The dead are kept for a while, so that who uses one is told why it does not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its number.
    pub id: TokenId,
    /// What proves its secret.
    pub verifier: Verifier,
    /// What it is for.
    pub kind: TokenKind,
    /// How many times it may still be used.
    pub uses_left: u32,
    /// When it ends, in seconds since the Unix epoch.
    pub expires_at: u64,
    /// True when it was revoked.
    pub revoked: bool,
    /// When it was created, in seconds since the Unix epoch.
    pub created_at: u64,
    /// Who created it.
    pub created_by: String,
}

impl Token {
    /// Can it be used at `at`, in seconds since the Unix epoch? Says why not. There is no slack for clocks.
    pub fn check(&self, at: u64) -> Result<(), Refusal> {
        let id = self.id;
        if self.revoked {
            return Err(Refusal::TokenRevoked { id });
        }
        if self.uses_left == 0 {
            return Err(Refusal::TokenUsedUp { id });
        }
        self.check_expired(at)
    }

    /// [`Token::check`], and that the token is for a `user` of this kind.
    pub fn check_for(&self, user: TokenUser, at: u64) -> Result<(), Refusal> {
        self.check(at)?;
        self.check_kind(user)
    }

    /// Can a use that was spent on `user` be repeated at `at`, in seconds since the Unix epoch? It can though nothing is left.
    /// Whether one was, [`Catalog::used_by`](crate::Catalog::used_by) tells.
    pub fn check_again(&self, user: TokenUser, at: u64) -> Result<(), Refusal> {
        if self.revoked {
            return Err(Refusal::TokenRevoked { id: self.id });
        }
        self.check_expired(at)?;
        self.check_kind(user)
    }

    fn check_expired(&self, at: u64) -> Result<(), Refusal> {
        if at >= self.expires_at {
            return Err(Refusal::TokenExpired { id: self.id, expires_at: self.expires_at, at });
        }
        Ok(())
    }

    fn check_kind(&self, user: TokenUser) -> Result<(), Refusal> {
        match (&self.kind, user) {
            (TokenKind::Workload { .. }, TokenUser::Workload(_))
            | (TokenKind::Gateway { .. }, TokenUser::Gateway(_)) => Ok(()),
            (kind, user) => {
                Err(Refusal::TokenWrongKind { id: self.id, kind: kind.to_string(), user: user.to_string() })
            }
        }
    }
}
