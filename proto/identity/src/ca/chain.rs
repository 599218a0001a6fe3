//! The certificates that a CA signs under, checked before anything is signed: a mistake in them would otherwise show only at the
//! handshakes of others.

use crate::cert::Facts;
use crate::{IdentityError, MAX_CHAIN, timestamp};
use causeway_model::TrustDomain;
use std::time::SystemTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, GeneralSubtree};
use x509_parser::prelude::FromDer;

/// The most certificates between an SVID and its root: gateways present the SVID and the root beside them.
pub(super) const MAX_INTERMEDIATES: usize = MAX_CHAIN - 2;

/// The certificate of a chain that ends first.
pub(super) struct Ending {
    pub(super) at: SystemTime,
    /// Which one, in words.
    pub(super) whose: String,
}

/// One certificate of the chain.
struct Link<'a> {
    /// Which one, in words.
    label: String,
    facts: Facts,
    cert: X509Certificate<'a>,
}

impl<'a> Link<'a> {
    fn parse(place: &str, der: &'a [u8]) -> Result<Self, IdentityError> {
        let facts = Facts::parse(der).map_err(|cause| refused(format!("{place}: {cause}")))?;
        let (_, cert) = X509Certificate::from_der(der).map_err(|e| refused(format!("{place}: {e}")))?;
        let name = cert.subject().to_string();
        let label = if name.is_empty() { place.to_owned() } else { format!("{place} ({name})") };
        Ok(Self { label, facts, cert })
    }

    fn error(&self, cause: impl std::fmt::Display) -> IdentityError {
        refused(format!("{}: {cause}", self.label))
    }

    fn check(&self, trust_domain: &TrustDomain, below: usize, now: SystemTime) -> Result<(), IdentityError> {
        self.check_authority(trust_domain, below)?;
        self.check_usage()?;
        check_names(&self.cert, trust_domain).map_err(|cause| self.error(cause))?;
        let (from, to) = (self.facts.not_before, self.facts.not_after);
        if now < from {
            let (from, now) = (timestamp::show(from), timestamp::show(now));
            return Err(self.error(format!("it is valid only from {from}, and it is {now}")));
        }
        if now >= to {
            let (to, now) = (timestamp::show(to), timestamp::show(now));
            return Err(self.error(format!("it expired at {to}, and it is {now}")));
        }
        Ok(())
    }

    /// That it is a CA of this trust domain or of none, which may have `below` CAs under it.
    fn check_authority(&self, trust_domain: &TrustDomain, below: usize) -> Result<(), IdentityError> {
        match self.facts.authority().map_err(|cause| self.error(cause))? {
            Some(named) if named != *trust_domain => {
                return Err(
                    self.error(format!("it is of trust domain {named}, and the cluster's is {trust_domain}"))
                );
            }
            _ => {}
        }
        let malformed = |e| self.error(format!("its extensions are malformed: {e}"));
        let usage = self.cert.key_usage().map_err(malformed)?;
        if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
            return Err(self.error("its key usage has no keyCertSign"));
        }
        let basic = self.cert.basic_constraints().map_err(malformed)?;
        let path = basic.and_then(|basic| basic.value.path_len_constraint);
        match path.and_then(|path| usize::try_from(path).ok()) {
            Some(path) if path < below => Err(self.error(format!(
                "its path length is {path}, and {below} CA certificates follow below it; it must be at least {below}"
            ))),
            _ => Ok(()),
        }
    }

    /// That an extended key usage, if there is one, allows both ends of a handshake.
    fn check_usage(&self) -> Result<(), IdentityError> {
        let usage = self.cert.extended_key_usage();
        let usage = usage.map_err(|e| self.error(format!("its extensions are malformed: {e}")))?;
        let Some(usage) = usage.map(|usage| usage.value) else { return Ok(()) };
        // not `any`: webpki does not take it for either
        for (allowed, name) in [(usage.server_auth, "serverAuth"), (usage.client_auth, "clientAuth")] {
            if !allowed {
                return Err(self.error(format!(
                    "its extended key usage lacks {name}; issue it with serverAuth and clientAuth, or without"
                )));
            }
        }
        Ok(())
    }

    fn check_signed_by(&self, issuer: &Self) -> Result<(), IdentityError> {
        let order = "write the signer first, then the certificate that signed it, and so on to the root";
        if self.cert.issuer().as_raw() != issuer.cert.subject().as_raw() {
            let (by, next) = (self.cert.issuer(), &issuer.label);
            return Err(self.error(format!("it was issued by \"{by}\", and next to it is {next}; {order}")));
        }
        self.cert.verify_signature(Some(issuer.cert.public_key())).map_err(|_| {
            self.error(format!(
                "its signature is not by the key of {}, though that has the issuer's name",
                issuer.label
            ))
        })
    }

    /// That the signer's subject survives rcgen, which writes it into each SVID as the issuer.
    fn check_subject(&self) -> Result<(), IdentityError> {
        let mut seen = Vec::new();
        for part in self.cert.subject().iter() {
            let mut attributes = part.iter();
            let (Some(attribute), None) = (attributes.next(), attributes.next()) else {
                return Err(self.error("its subject has a part of several attributes, or of none"));
            };
            if seen.contains(&attribute.attr_type()) {
                let name = self.cert.subject();
                return Err(self.error(format!(
                    "its subject \"{name}\" has two attributes of one kind; issue it with a subject such as \
                     \"O=Example, CN=Causeway CA\""
                )));
            }
            seen.push(attribute.attr_type());
        }
        if seen.is_empty() {
            return Err(self.error("its subject is empty"));
        }
        Ok(())
    }
}

/// Checks `chain` (DER, signer first) and `root`, for the key `public_key` (SubjectPublicKeyInfo) and `trust_domain`;
/// which of them ends first.
pub(super) fn check(
    trust_domain: &TrustDomain,
    chain: &[Vec<u8>],
    root: &[u8],
    public_key: &[u8],
    now: SystemTime,
) -> Result<Ending, IdentityError> {
    if chain.len() > MAX_INTERMEDIATES {
        let count = chain.len();
        return Err(refused(format!(
            "{count} between SVIDs and root, at most {MAX_INTERMEDIATES} are accepted"
        )));
    }
    let numbered =
        chain.iter().enumerate().map(|(n, der)| Link::parse(&format!("certificate {}", n + 1), der));
    let links = numbered.chain([Link::parse("the root", root)]).collect::<Result<Vec<_>, _>>()?;
    for (below, link) in links.iter().enumerate() {
        link.check(trust_domain, below, now)?;
        if let Some(issuer) = links.get(below + 1) {
            link.check_signed_by(issuer)?;
        }
    }
    let signer = links.first().ok_or_else(|| refused("there is none".into()))?;
    signer.check_subject()?;
    if signer.facts.spki != public_key {
        return Err(match links.iter().find(|link| link.facts.spki == public_key) {
            Some(other) => refused(format!(
                "the private key is that of {}, and SVIDs are to be signed by that of {}",
                other.label, signer.label
            )),
            None => IdentityError::KeyMismatch { what: "the CA certificate that is to sign" },
        });
    }
    let first = links.iter().min_by_key(|link| link.facts.not_after).unwrap_or(signer);
    Ok(Ending { at: first.facts.not_after, whose: first.label.clone() })
}

/// That name constraints let SVIDs of `trust_domain` pass. webpki, which every verifier of the mesh uses, refuses all
/// certificates below constraints on URIs and on directory names.
fn check_names(cert: &X509Certificate<'_>, trust_domain: &TrustDomain) -> Result<(), String> {
    let names = cert.name_constraints().map_err(|e| format!("its name constraints are malformed: {e}"))?;
    let Some(names) = names.map(|names| names.value) else { return Ok(()) };
    let permitted = names.permitted_subtrees.as_deref().unwrap_or_default();
    let excluded = names.excluded_subtrees.as_deref().unwrap_or_default();
    let uris = |subtrees: &[GeneralSubtree<'_>]| -> Vec<String> {
        let uris = subtrees.iter().filter_map(|subtree| match subtree.base {
            GeneralName::URI(uri) => Some(uri.to_owned()),
            _ => None,
        });
        uris.collect()
    };
    // RFC 5280 section 4.2.1.10: a host, or a domain with a leading dot
    let covers = |base: &String| match base.strip_prefix('.') {
        Some(_) => trust_domain.as_str().ends_with(base.as_str()),
        None => trust_domain.as_str() == base,
    };
    let (allowed, denied) = (uris(permitted), uris(excluded));
    if !allowed.is_empty() && !allowed.iter().any(covers) {
        let allowed = allowed.join(", ");
        return Err(format!("its name constraints permit URIs of {allowed} only, not of {trust_domain}"));
    }
    if let Some(denied) = denied.iter().find(|base| covers(base)) {
        return Err(format!("its name constraints exclude URIs of {denied}, and {trust_domain} is of it"));
    }
    if !allowed.is_empty() || !denied.is_empty() {
        return Err(
            "it has name constraints on URIs, below which peers refuse every SVID, because their verifier \
                    cannot check them; issue it without"
                .into(),
        );
    }
    let directory = |subtree: &GeneralSubtree<'_>| matches!(subtree.base, GeneralName::DirectoryName(_));
    if permitted.iter().chain(excluded).any(directory) {
        return Err(
            "it has name constraints on directory names, below which peers refuse every SVID; issue it \
                    without"
                .into(),
        );
    }
    Ok(())
}

/// Whether a certificate is its own issuer.
pub(super) fn self_signed(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, cert)| {
        cert.subject().as_raw() == cert.issuer().as_raw() && cert.verify_signature(None).is_ok()
    })
}

/// The subject of a certificate, for messages.
pub(super) fn subject(der: &[u8]) -> String {
    X509Certificate::from_der(der)
        .map_or_else(|_| "unreadable".into(), |(_, cert)| cert.subject().to_string())
}

pub(super) fn refused(cause: String) -> IdentityError {
    IdentityError::CaChain { cause }
}

#[cfg(test)]
mod tests;
