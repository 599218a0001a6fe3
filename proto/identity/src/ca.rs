//! The cluster's certificate authority: a root that signs SVIDs and the certificate of the admin API, or an intermediate
//! that an operator had signed by a root of their own.
//!
//! Who may have which identity is decided by the caller; this module refuses only what can never be right.

mod chain;
mod key;
mod operator;
mod request;

pub use key::CaKey;
pub use operator::OperatorCa;
pub use request::request_key_id;

use crate::cert::Facts;
use crate::{
    BundleStore, IdentityError, KeyPair, TrustBundle, Usage, fingerprint, timestamp, tls, verify_chain,
};
use causeway_model::{ClusterName, SpiffeId, TrustDomain};
use chain::Ending;
use data_encoding::HEXLOWER;
use key::CaSigner;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use std::fmt;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use zeroize::Zeroizing;

/// How long a workload's SVID lives.
pub const SVID_TTL: Duration = Duration::from_secs(24 * 3600);
/// How long a gateway's SVID lives.
pub const GATEWAY_SVID_TTL: Duration = Duration::from_secs(24 * 3600);
/// How long a root lives: ten years.
pub const ROOT_TTL: Duration = Duration::from_secs(3650 * 24 * 3600);
/// How far apart the clocks of two machines may be: certificates begin this much early, and one that is not yet, or no
/// longer, valid by less is accepted. It is part of what a certificate says: revocations count from notBefore plus this.
pub const CLOCK_SLACK: Duration = Duration::from_secs(5 * 60);

/// How long before its end a CA certificate is reported by [`ClusterCa::warning`]: 30 days.
pub const CA_ENDS_SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// The longest common name of X.520, in characters.
const MAX_COMMON_NAME: usize = 64;

/// A cluster's CA certificates with the key that signs. `Debug` shows no key.
#[derive(Clone)]
pub struct ClusterCa {
    trust_domain: TrustDomain,
    root: CertificateDer<'static>,
    /// The certificates below the root, the one whose key signs first.
    intermediates: Vec<CertificateDer<'static>>,
    /// When the first of the certificates ends, and which one it is.
    expires: SystemTime,
    ends_first: String,
    key: CaKey,
}

impl ClusterCa {
    /// A new root for `trust_domain`, valid from [`CLOCK_SLACK`] before `now` for [`ROOT_TTL`]: the first of a cluster, or
    /// the next one when it rotates. Roots of one trust domain may stand in one bundle, in any order.
    ///
    /// # Errors
    /// [`IdentityError::Crypto`] if the system gives no randomness, [`IdentityError::Lifetime`] if `now` is absurd.
    pub fn create(trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, IdentityError> {
        Self::create_with_key(trust_domain, &KeyPair::generate()?, now)
    }

    /// A new root for the default trust domain of `cluster`: `CLUSTER-HASH.mesh`, with the first 12 hexadecimal digits of
    /// the SHA-256 of the root's public key, so that two clusters of one name still differ.
    ///
    /// # Errors
    /// As [`ClusterCa::create`].
    pub fn create_with_default_domain(
        cluster: &ClusterName,
        now: SystemTime,
    ) -> Result<(Self, TrustDomain), IdentityError> {
        let key = KeyPair::generate()?;
        let hash = HEXLOWER.encode(&tls::sha256(&key.public_key())[..6]);
        let domain: TrustDomain = format!("{cluster}-{hash}.mesh")
            .parse()
            .map_err(|e| IdentityError::Certificate { what: "the new root", cause: format!("{e}") })?;
        Ok((Self::create_with_key(&domain, &key, now)?, domain))
    }

    fn create_with_key(
        trust_domain: &TrustDomain,
        key: &KeyPair,
        now: SystemTime,
    ) -> Result<Self, IdentityError> {
        let mut params = params(now, now.checked_add(ROOT_TTL))?;
        let name: String = format!("causeway CA {trust_domain}").chars().take(MAX_COMMON_NAME).collect();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names.push(uri(&format!("spiffe://{trust_domain}"))?);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = false;
        let key = CaKey::from(key);
        let root = params.self_signed(&CaSigner(&key)).map_err(signing)?;
        Self::from_root(root.der().clone(), key)
    }

    /// The CA with a root certificate (DER) and its PKCS#8 key, as [`ClusterCa::root_der`] and
    /// [`ClusterCa::export_key`] gave them.
    ///
    /// # Errors
    /// [`IdentityError::Certificate`] if the certificate is no CA's or names no trust domain, [`IdentityError::CaKey`] or
    /// [`IdentityError::KeyMismatch`] if the key is no such key or another's.
    pub fn from_parts(root_der: &[u8], pkcs8: &[u8]) -> Result<Self, IdentityError> {
        Self::from_root(CertificateDer::from(root_der.to_vec()), CaKey::from_der(pkcs8)?)
    }

    /// The CA whose `key` signs for `trust_domain` with the certificate that `chain` (DER) begins with; after that come
    /// the CA certificates between it and `root`, each followed by the one that signed it. The SVIDs' chains carry them.
    /// If `chain` is empty the root signs. The certificates need not name a trust domain.
    ///
    /// Whoever has a certificate under a root can speak for every trust domain in whose bundle that root is: bring a root
    /// that signs for this cluster only, or whose other CAs have name constraints.
    ///
    /// # Errors
    /// [`IdentityError::CaChain`], which names the certificate and what is wrong with it: that it is no CA, may not sign
    /// or not at this depth, does not lead to the next, is not valid at `now`, or has usages or name constraints below
    /// which peers would refuse the SVIDs. [`IdentityError::KeyMismatch`] if the key is none of them.
    pub fn from_chain(
        trust_domain: &TrustDomain,
        chain: Vec<Vec<u8>>,
        key: CaKey,
        root: Vec<u8>,
        now: SystemTime,
    ) -> Result<Self, IdentityError> {
        let Ending { at, whose } = chain::check(trust_domain, &chain, &root, &key.public_key(), now)?;
        let ca = Self {
            trust_domain: trust_domain.clone(),
            root: root.into(),
            intermediates: chain.into_iter().map(CertificateDer::from).collect(),
            expires: at,
            ends_first: whose,
            key,
        };
        ca.prove(now)?;
        Ok(ca)
    }

    /// Signs an SVID and judges it as peers will, which finds what no check above foresaw.
    fn prove(&self, now: SystemTime) -> Result<(), IdentityError> {
        let failed = |cause: String| chain::refused(format!("an SVID signed with them is refused: {cause}"));
        let id: SpiffeId = format!("spiffe://{}/causeway/proof", self.trust_domain)
            .parse()
            .map_err(|e| failed(format!("{e}")))?;
        let csr = KeyPair::generate()?.csr()?;
        let svid = self.sign_svid(&csr, &id, now, SVID_TTL)?;
        let svid: Vec<_> = svid.into_iter().map(CertificateDer::from).collect();
        let bundles = BundleStore::new();
        bundles.set(self.bundle()).map_err(|e| failed(e.to_string()))?;
        for usage in [Usage::Client, Usage::Server] {
            verify_chain(&bundles, &svid, usage, now).map_err(|e| failed(e.to_string()))?;
        }
        Ok(())
    }

    fn from_root(root: CertificateDer<'static>, key: CaKey) -> Result<Self, IdentityError> {
        let refused = |cause| IdentityError::Certificate { what: "the root certificate", cause };
        let facts = Facts::parse(&root).map_err(refused)?;
        let named = facts.authority().map_err(refused)?;
        let trust_domain = named.ok_or_else(|| refused("it names no trust domain".into()))?;
        if facts.spki != key.public_key() {
            return Err(IdentityError::KeyMismatch { what: "the root certificate" });
        }
        let (expires, ends_first) = (facts.not_after, format!("the root ({})", chain::subject(&root)));
        Ok(Self { trust_domain, root, intermediates: Vec::new(), expires, ends_first, key })
    }

    /// The trust domain that this CA signs for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The root certificate, DER.
    pub fn root_der(&self) -> &[u8] {
        &self.root
    }

    /// The CA certificates between SVIDs and the root, the one whose key signs first; empty if the root itself signs.
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.intermediates
    }

    /// SHA-256 of the root certificate.
    pub fn root_fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.root)
    }

    /// What to tell the operator if a CA certificate has expired at `now` or does so within [`CA_ENDS_SOON`].
    pub fn warning(&self, now: SystemTime) -> Option<String> {
        if now.checked_add(CA_ENDS_SOON)? < self.expires {
            return None;
        }
        let (whose, domain, end) = (&self.ends_first, &self.trust_domain, timestamp::show(self.expires));
        let ends = match timestamp::distance(now, self.expires) {
            left if now < self.expires => format!("ends at {end}, in {left}"),
            _ => format!("ended at {end}"),
        };
        Some(format!(
            "{whose} of the CA of {domain} {ends}; then no SVID can be issued or renewed: rotate the \
             CA, or bring a new certificate for it"
        ))
    }

    /// When the first of the CA's certificates expires. It signs nothing that lives longer.
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    /// The trust bundle with this root alone.
    pub fn bundle(&self) -> TrustBundle {
        // not through `new`: its checks were made when the root was taken
        let (trust_domain, roots) = (self.trust_domain.clone(), vec![self.root.to_vec()]);
        TrustBundle { trust_domain, roots, revoked: Vec::new() }
    }

    /// The private key that signs, as PKCS#8; wiped when dropped.
    pub fn export_key(&self) -> Zeroizing<Vec<u8>> {
        self.key.pkcs8()
    }

    /// Signs an X.509-SVID for `id` (DER, leaf first, without the root), valid for `ttl` from `now`, and
    /// [`CLOCK_SLACK`] earlier. Of the request only the public key is used, after its signature has been checked: it
    /// proves that the asker holds the key. Nothing outlives the CA's own certificates.
    ///
    /// # Errors
    /// [`IdentityError::ForeignId`] for an ID without path or of another trust domain, [`IdentityError::Request`],
    /// [`IdentityError::Lifetime`] or [`IdentityError::Crypto`].
    pub fn sign_svid(
        &self,
        csr_der: &[u8],
        id: &SpiffeId,
        now: SystemTime,
        ttl: Duration,
    ) -> Result<Vec<Vec<u8>>, IdentityError> {
        if id.trust_domain() != &self.trust_domain || id.path().is_empty() {
            return Err(IdentityError::ForeignId { id: id.clone(), trust_domain: self.trust_domain.clone() });
        }
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&request::public_key(csr_der)?, vec![uri(&id.to_string())?], usages, now, ttl)
    }

    /// Signs a certificate for an HTTPS server (DER, leaf first, without the root) with DNS names and IP addresses as
    /// `names`; otherwise as [`ClusterCa::sign_svid`]. It has no SPIFFE ID, so it proves nothing inside the mesh.
    ///
    /// # Errors
    /// [`IdentityError::WebName`] if a name is neither, or there are none or more than 64, and as
    /// [`ClusterCa::sign_svid`].
    pub fn sign_web(
        &self,
        csr_der: &[u8],
        names: &[String],
        now: SystemTime,
        ttl: Duration,
    ) -> Result<Vec<Vec<u8>>, IdentityError> {
        let key = request::public_key(csr_der)?;
        self.sign(&key, request::web_names(names)?, vec![ExtendedKeyUsagePurpose::ServerAuth], now, ttl)
    }

    fn sign(
        &self,
        key: &SubjectPublicKeyInfo,
        names: Vec<SanType>,
        usages: Vec<ExtendedKeyUsagePurpose>,
        now: SystemTime,
        ttl: Duration,
    ) -> Result<Vec<Vec<u8>>, IdentityError> {
        if now >= self.expires || ttl.as_secs() == 0 {
            let (whose, end, now) = (&self.ends_first, timestamp::show(self.expires), timestamp::show(now));
            let cause = format!("{whose} is valid until {end}, it is {now}, and {ttl:?} were asked for");
            return Err(IdentityError::Lifetime { cause });
        }
        let mut params = params(now, now.checked_add(ttl).map(|end| end.min(self.expires)))?;
        params.subject_alt_names = names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        let signer = self.intermediates.first().unwrap_or(&self.root);
        let issuer = Issuer::from_ca_cert_der(signer, CaSigner(&self.key)).map_err(signing)?;
        let leaf = params.signed_by(key, &issuer).map_err(signing)?;
        let leaf = std::iter::once(leaf.der()).chain(&self.intermediates);
        Ok(leaf.map(|cert| cert.to_vec()).collect())
    }
}

impl fmt::Debug for ClusterCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClusterCa").field(&self.trust_domain).finish()
    }
}

/// What every certificate has: no subject, a random serial, and a life from a little before `now` to `end`.
fn params(now: SystemTime, end: Option<SystemTime>) -> Result<CertificateParams, IdentityError> {
    let date = |time: Option<SystemTime>| -> Result<OffsetDateTime, IdentityError> {
        time.and_then(timestamp::to_date).ok_or_else(|| IdentityError::Lifetime {
            cause: format!("from {} it reaches outside the years 1970 to 9999", timestamp::show(now)),
        })
    };
    let mut params = CertificateParams::default();
    params.not_before = date(now.checked_sub(CLOCK_SLACK))?;
    params.not_after = date(end)?;
    params.serial_number = Some(serial()?);
    params.distinguished_name = DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// 16 random bytes as a positive number that needs all of them (RFC 5280 section 4.1.2.2).
fn serial() -> Result<SerialNumber, IdentityError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| IdentityError::Crypto { what: "get randomness" })?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn uri(uri: &str) -> Result<SanType, IdentityError> {
    Ok(SanType::URI(uri.try_into().map_err(signing)?))
}

fn signing(_: rcgen::Error) -> IdentityError {
    IdentityError::Crypto { what: "sign a certificate" }
}

#[cfg(test)]
mod tests;
