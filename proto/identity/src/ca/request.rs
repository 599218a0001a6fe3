//! What the CA takes from the one who asks: a public key, and names of web servers.

use crate::{IdentityError, tls};
use rcgen::{PublicKeyData as _, SanType, SubjectPublicKeyInfo};
use rustls_pki_types::DnsName;
use std::net::IpAddr;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

/// The largest certificate request that is parsed, in bytes.
const MAX_REQUEST: usize = 8 * 1024;
/// The most names in a web certificate.
const MAX_NAMES: usize = 64;

/// The public key in a PKCS#10 request whose signature proves that the asker has the private one.
pub(super) fn public_key(csr_der: &[u8]) -> Result<SubjectPublicKeyInfo, IdentityError> {
    let refused = |cause: String| IdentityError::Request { cause };
    if csr_der.len() > MAX_REQUEST {
        return Err(refused(format!("it has {} bytes, at most {MAX_REQUEST} are accepted", csr_der.len())));
    }
    let parsed = X509CertificationRequest::from_der(csr_der);
    let (rest, request) = parsed.map_err(|e| refused(format!("it is not PKCS#10: {e}")))?;
    if !rest.is_empty() {
        return Err(refused(format!("{} bytes follow it", rest.len())));
    }
    let spki = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw);
    let key = spki.ok().filter(|key| key.algorithm() == tls::certificate_signature());
    let key = key.ok_or_else(|| refused("its key is not an ECDSA key on P-256".into()))?;
    request
        .verify_signature()
        .map_err(|_| refused("its signature was not made with the key that it asks for".into()))?;
    Ok(key)
}

/// 64 bits of SHA-256 of the public key in a PKCS#10 request: the same whenever the holder of the key asks, and another one for
/// anybody else.
///
/// # Errors
/// [`IdentityError::Request`] for what [`ClusterCa::sign_svid`](crate::ClusterCa::sign_svid) would refuse too.
pub fn request_key_id(csr_der: &[u8]) -> Result<u64, IdentityError> {
    let digest = tls::sha256(public_key(csr_der)?.der_bytes());
    let [a, b, c, d, e, f, g, h, ..] = digest;
    Ok(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

/// `names` as subject alternative names.
pub(super) fn web_names(names: &[String]) -> Result<Vec<SanType>, IdentityError> {
    const COUNT: &str = "give 1 to 64 names";
    if names.is_empty() || names.len() > MAX_NAMES {
        return Err(IdentityError::WebName { name: names.first().cloned().unwrap_or_default(), rule: COUNT });
    }
    names.iter().map(|name| web_name(name)).collect()
}

fn web_name(name: &str) -> Result<SanType, IdentityError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let refused = || IdentityError::WebName {
        name: name.chars().take(128).collect(),
        rule: "write a DNS name or an IP address, without port",
    };
    DnsName::try_from(name).map_err(|_| refused())?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| refused())?))
}
