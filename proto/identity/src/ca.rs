//! The cluster's certificate authority: one self-signed root that signs SVIDs and the certificate of the admin API.
//!
//! Who may have which identity is decided by the caller; this module refuses only what can never be right.

mod request;

pub use request::request_key_id;

use crate::cert::Facts;
use crate::key::Signer;
use crate::{IdentityError, KeyPair, TrustBundle, timestamp, tls};
use causeway_model::{ClusterName, SpiffeId, TrustDomain};
use data_encoding::HEXLOWER;
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
/// longer, valid by less is accepted.
pub const CLOCK_SLACK: Duration = Duration::from_secs(5 * 60);

/// The longest common name of X.520, in characters.
const MAX_COMMON_NAME: usize = 64;

/// A cluster's root certificate with its key. `Debug` shows no key.
#[derive(Clone)]
pub struct ClusterCa {
    trust_domain: TrustDomain,
    root: CertificateDer<'static>,
    expires: SystemTime,
    key: KeyPair,
}

impl ClusterCa {
    /// A new root for `trust_domain`, valid from [`CLOCK_SLACK`] before `now` for [`ROOT_TTL`].
    ///
    /// # Errors
    /// [`IdentityError::Crypto`] if the system gives no randomness, [`IdentityError::Lifetime`] if `now` is absurd.
    pub fn create(trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, IdentityError> {
        Self::create_with_key(trust_domain, KeyPair::generate()?, now)
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
        Ok((Self::create_with_key(&domain, key, now)?, domain))
    }

    fn create_with_key(
        trust_domain: &TrustDomain,
        key: KeyPair,
        now: SystemTime,
    ) -> Result<Self, IdentityError> {
        let mut params = params(now, now.checked_add(ROOT_TTL))?;
        let name: String = format!("causeway CA {trust_domain}").chars().take(MAX_COMMON_NAME).collect();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names.push(uri(&format!("spiffe://{trust_domain}"))?);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = false;
        let root = params.self_signed(&Signer(&key)).map_err(signing)?;
        Self::from_root(root.der().clone(), key)
    }

    /// The CA with a root certificate (DER) and its PKCS#8 key, as [`ClusterCa::root_der`] and
    /// [`ClusterCa::export_key`] gave them.
    ///
    /// # Errors
    /// [`IdentityError::Certificate`] if the certificate is no CA's or names no trust domain, [`IdentityError::Key`] or
    /// [`IdentityError::KeyMismatch`] if the key is no such key or another's.
    pub fn from_parts(root_der: &[u8], pkcs8: &[u8]) -> Result<Self, IdentityError> {
        Self::from_root(CertificateDer::from(root_der.to_vec()), KeyPair::from_pkcs8(pkcs8)?)
    }

    fn from_root(root: CertificateDer<'static>, key: KeyPair) -> Result<Self, IdentityError> {
        let refused = |cause| IdentityError::Certificate { what: "the root certificate", cause };
        let facts = Facts::parse(&root).map_err(refused)?;
        let named = facts.authority().map_err(refused)?;
        let trust_domain = named.ok_or_else(|| refused("it names no trust domain".into()))?;
        if facts.spki != key.public_key() {
            return Err(IdentityError::KeyMismatch { what: "the root certificate" });
        }
        Ok(Self { trust_domain, root, expires: facts.not_after, key })
    }

    /// The trust domain that this CA signs for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The root certificate, DER.
    pub fn root_der(&self) -> &[u8] {
        &self.root
    }

    /// When the root certificate expires.
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    /// The trust bundle with this root alone.
    pub fn bundle(&self) -> TrustBundle {
        // not through `new`: `from_root` has made every check that it makes
        TrustBundle { trust_domain: self.trust_domain.clone(), roots: vec![self.root.to_vec()] }
    }

    /// The root's private key as PKCS#8; wiped when dropped.
    pub fn export_key(&self) -> Zeroizing<Vec<u8>> {
        self.key.pkcs8()
    }

    /// Signs an X.509-SVID for `id` (DER, leaf first, without the root), valid for `ttl` from `now`, and
    /// [`CLOCK_SLACK`] earlier. Of the request only the public key is used, after its signature has been checked: it
    /// proves that the asker holds the key. Nothing outlives the root.
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
            let (root, now) = (timestamp::show(self.expires), timestamp::show(now));
            let cause = format!("the root is valid until {root}, it is {now}, and {ttl:?} were asked for");
            return Err(IdentityError::Lifetime { cause });
        }
        let mut params = params(now, now.checked_add(ttl).map(|end| end.min(self.expires)))?;
        params.subject_alt_names = names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        let issuer = Issuer::from_ca_cert_der(&self.root, Signer(&self.key)).map_err(signing)?;
        let leaf = params.signed_by(key, &issuer).map_err(signing)?;
        Ok(vec![leaf.der().to_vec()])
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
