//! The rotation of the certificate authority, and revocations.

use super::tokens::check_expiry;
use crate::bound::{GATEWAY_REVOCATIONS, check_chain, check_own_trust, check_roots, check_sealed};
use crate::catalog::{Context, Effect, done};
use crate::{
    ActivateRoot, Bound, Catalog, ConfirmRoots, DropRoot, Event, Refusal, Reinstate, Revoke, Revoked,
    StageRoot, StagedCa, TokenKind,
};
use causeway_model::{Revocation, RevokedSubject, SpiffeRole};
use std::collections::BTreeSet;

impl Catalog {
    pub(crate) fn stage_root(&mut self, context: Context<'_>, c: &StageRoot) -> Result<Effect, Refusal> {
        let revoked = self.revoked.values().map(|revoked| &revoked.revocation);
        let cluster = self.cluster.as_mut().ok_or(Refusal::NotInitialised)?;
        let (own, ca) = (&cluster.facts.trust_domain, &mut cluster.ca);
        check_sealed(&c.sealed_key)?;
        check_chain(&c.chain)?;
        let mut roots = ca.roots.clone();
        if let Some(staged) = &ca.staged {
            return Err(Refusal::RotationUnderWay { since: staged.at });
        }
        // the root that signs may be announced again with another signer below it
        if !roots.contains(&c.root_der) {
            roots.push(c.root_der.clone());
        }
        check_roots(&roots)?;
        check_own_trust(own, &roots, revoked, false)?;
        ca.roots = roots;
        ca.roots_changed = context.revision;
        ca.staged = Some(StagedCa {
            root_der: c.root_der.clone(),
            chain: c.chain.clone(),
            sealed_key: c.sealed_key.clone(),
            at: context.at,
        });
        ca.keep_secs = c.keep_secs;
        self.own_trust_changes(context.revision);
        Ok(done([Event::ClusterChanged]))
    }

    pub(crate) fn activate_root(
        &mut self,
        context: Context<'_>,
        c: &ActivateRoot,
    ) -> Result<Effect, Refusal> {
        let ca = &mut self.cluster.as_mut().ok_or(Refusal::NotInitialised)?.ca;
        let staged = ca.staged.take_if(|staged| staged.root_der == c.root_der);
        let staged = staged.ok_or(Refusal::RootNotStaged)?;
        let Some(active) = ca.roots.iter().position(|root| *root == staged.root_der) else {
            return Err(Refusal::RootUnknown);
        };
        // tokens pin the first root of a bundle
        let root = ca.roots.remove(active);
        ca.roots.insert(0, root);
        ca.active_root = 0;
        ca.chain = staged.chain;
        ca.sealed_key = staged.sealed_key;
        ca.activated_at = context.at;
        ca.activated = context.revision;
        Ok(done([Event::ClusterChanged]))
    }

    pub(crate) fn drop_root(&mut self, context: Context<'_>, c: &DropRoot) -> Result<Effect, Refusal> {
        let ca = &mut self.cluster.as_mut().ok_or(Refusal::NotInitialised)?.ca;
        let index = ca.roots.iter().position(|root| *root == c.root_der).ok_or(Refusal::RootUnknown)?;
        let staged = ca.staged.take_if(|staged| staged.root_der == c.root_der).is_some();
        if index == ca.active_root {
            // a new signer below the same root was announced: that is what ends
            return if staged { Ok(done([Event::ClusterChanged])) } else { Err(Refusal::RootActive) };
        }
        ca.roots.remove(index);
        ca.active_root -= usize::from(index < ca.active_root);
        ca.roots_changed = context.revision;
        self.own_trust_changes(context.revision);
        Ok(done([Event::ClusterChanged]))
    }

    pub(crate) fn confirm_roots(&mut self, c: &ConfirmRoots) -> Result<Effect, Refusal> {
        self.own()?;
        let unknown = || Refusal::LinkUnknown { cluster: c.cluster.clone() };
        let have = self.revision;
        let link = self.links.get_mut(&c.cluster).ok_or_else(unknown)?;
        if c.revision > have {
            return Err(Refusal::invalid(
                "confirmed revision",
                &c.revision.to_string(),
                "the linked cluster cannot have seen more than there is",
            ));
        }
        if c.revision <= link.confirmed {
            return Ok(done([]));
        }
        link.confirmed = c.revision;
        Ok(done([Event::LinkChanged(c.cluster.clone())]))
    }

    pub(crate) fn revoke(&mut self, context: Context<'_>, c: &Revoke) -> Result<Effect, Refusal> {
        let own = self.own()?.trust_domain.clone();
        for subject in &c.subjects {
            if let RevokedSubject::Identity(identity) = subject
                && *identity.trust_domain() != own
            {
                return Err(Refusal::IdentityForeign { identity: identity.clone(), own });
            }
        }
        if c.subjects.is_empty() {
            return Err(Refusal::invalid(
                "subjects of a revocation",
                "none",
                "name at least one identity or key",
            ));
        }
        self.check_revocable(context, &c.subjects, c.ends_at)?;
        Ok(done(self.refuse_certificates(context, &c.subjects, c.ends_at)))
    }

    /// Refuses a revocation that is over already, or for which there is no room.
    pub(crate) fn check_revocable(
        &self,
        context: Context<'_>,
        subjects: &BTreeSet<RevokedSubject>,
        ends_at: u64,
    ) -> Result<(), Refusal> {
        let cluster = self.cluster.as_ref().ok_or(Refusal::NotInitialised)?;
        check_expiry("end of a revocation", ends_at, context.at)?;
        let new = subjects.iter().filter(|subject| !self.revoked.contains_key(*subject));
        let new: Vec<Revocation> =
            new.map(|subject| Revocation { subject: subject.clone(), issued_before: context.at }).collect();
        if new.is_empty() {
            return Ok(());
        }
        let reserved = new.iter().all(|revocation| is_gateway(&revocation.subject));
        let kept = if reserved { 0 } else { GATEWAY_REVOCATIONS };
        Bound::Revocations.check(self.revoked.len() + new.len() + kept)?;
        let known = self.revoked.values().map(|revoked| &revoked.revocation);
        check_own_trust(&cluster.facts.trust_domain, &cluster.ca.roots, known.chain(&new), reserved)
    }

    /// Refuses all certificates of `subjects` that were issued until now. It was checked.
    pub(crate) fn refuse_certificates(
        &mut self,
        context: Context<'_>,
        subjects: &BTreeSet<RevokedSubject>,
        ends_at: u64,
    ) -> Vec<Event> {
        let mut events = vec![Event::ClusterChanged];
        for subject in subjects {
            let revocation = Revocation { subject: subject.clone(), issued_before: context.at };
            let revoked = Revoked { revocation, ends_at, by: context.by.to_owned() };
            self.revoked.insert(subject.clone(), revoked);
            if self.revoke_tokens_of(subject) && !events.contains(&Event::TokensChanged) {
                events.push(Event::TokensChanged);
            }
        }
        self.purge_at = self.purge_at.min(ends_at);
        self.own_trust_changes(context.revision);
        events
    }

    /// Revokes the tokens that would give the identity new certificates. True when there were any.
    fn revoke_tokens_of(&mut self, subject: &RevokedSubject) -> bool {
        let RevokedSubject::Identity(revoked) = subject else { return false };
        let mut any = false;
        for token in self.tokens.values_mut() {
            if matches!(&token.kind, TokenKind::Workload { identity, .. } if identity == revoked)
                && !token.revoked
            {
                token.revoked = true;
                any = true;
            }
        }
        any
    }

    pub(crate) fn reinstate(&mut self, context: Context<'_>, c: &Reinstate) -> Result<Effect, Refusal> {
        self.own()?;
        if self.revoked.remove(&c.subject).is_none() {
            return Err(Refusal::NotRevoked { subject: c.subject.clone() });
        }
        self.own_trust_changes(context.revision);
        Ok(done([Event::ClusterChanged]))
    }
}

/// Whether the subject is a gateway or a forwarder, by its identity.
fn is_gateway(subject: &RevokedSubject) -> bool {
    let RevokedSubject::Identity(identity) = subject else { return false };
    matches!(identity.role(), SpiffeRole::Gateway(_) | SpiffeRole::Forwarder(_))
}
