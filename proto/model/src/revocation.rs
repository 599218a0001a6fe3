//! Revocations: certificates that are refused before they expire.

use crate::{ParseError, SpiffeId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Refuses the certificates of a subject that were issued until a moment. One that is issued later is accepted, so an
/// identity comes back with a new token and without anybody lifting its revocation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// Whose certificates are refused.
    pub subject: RevokedSubject,
    /// Unix time in seconds: a certificate issued in this second or before it is refused. The moment of issue counts,
    /// not the certificate's notBefore, which lies earlier so that clocks may differ.
    pub issued_before: u64,
}

impl Revocation {
    /// The most revocations of one trust domain.
    pub const MAX_PER_DOMAIN: usize = 1024;
    /// The most bytes that the roots and the revocations of one trust domain may take together, as [`trust_len`] counts them. What
    /// a cluster says of its trust goes to every gateway and sidecar of every linked cluster, in one message.
    pub const MAX_TRUST_BYTES: usize = 256 * 1024;

    /// An upper bound of its size in a message, in bytes, where an integer takes at most 9.
    pub fn encoded_len(&self) -> usize {
        let subject = match &self.subject {
            RevokedSubject::Identity(id) => SCHEME.len() + id.trust_domain().as_str().len() + id.path().len(),
            RevokedSubject::Key(hash) => KEY.len() + 2 * hash.len(),
        };
        INTEGER + subject + INTEGER
    }
}

/// An upper bound of how many bytes root certificates (DER) and revocations take together in a message.
pub fn trust_len<'a>(roots: &[Vec<u8>], revoked: impl IntoIterator<Item = &'a Revocation>) -> usize {
    let roots: usize = roots.iter().map(|root| INTEGER + root.len()).sum();
    roots + revoked.into_iter().map(Revocation::encoded_len).sum::<usize>()
}

/// The most bytes that an integer, or a length, takes in a message.
const INTEGER: usize = 9;
/// What a SPIFFE ID's text begins with.
const SCHEME: &str = "spiffe://";

/// Whose certificates a [`Revocation`] refuses. Written as the SPIFFE ID, or as `key:` and 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RevokedSubject {
    /// Those of an identity, whatever their key.
    Identity(SpiffeId),
    /// Those of a key, whatever their identity: SHA-256 of the SubjectPublicKeyInfo (DER, RFC 5280 section 4.1.2.7).
    Key([u8; 32]),
}

/// What a key's text begins with.
const KEY: &str = "key:";

impl FromStr for RevokedSubject {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let Some(digits) = s.strip_prefix(KEY) else { return Ok(Self::Identity(s.parse()?)) };
        hex32(digits).map(Self::Key).ok_or_else(|| {
            ParseError::new(
                "revoked key",
                s,
                "write key: and the SHA-256 of the public key as 64 hexadecimal digits",
            )
        })
    }
}

impl fmt::Display for RevokedSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(id) => write!(f, "{id}"),
            Self::Key(hash) => {
                f.write_str(KEY)?;
                hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl fmt::Display for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, issued until Unix time {}", self.subject, self.issued_before)
    }
}

impl TryFrom<String> for RevokedSubject {
    type Error = ParseError;

    fn try_from(s: String) -> Result<Self, ParseError> {
        s.parse()
    }
}

impl From<RevokedSubject> for String {
    fn from(subject: RevokedSubject) -> String {
        subject.to_string()
    }
}

/// 64 hexadecimal digits as bytes.
fn hex32(digits: &str) -> Option<[u8; 32]> {
    let digits = digits.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn subjects_read_as_they_are_written() {
        let id: SpiffeId = "spiffe://iad.mesh/ns/shop/sa/payments".parse().unwrap();
        let subject = RevokedSubject::Identity(id.clone());
        assert_eq!(subject.to_string(), id.to_string());
        assert_eq!(subject.to_string().parse::<RevokedSubject>().unwrap(), subject);
        let key = format!("key:{}", "aB".repeat(32));
        assert_eq!(key.parse::<RevokedSubject>().unwrap(), RevokedSubject::Key([0xab; 32]));
        for bad in ["", "key:", "shop/payments", &key[..67], &format!("{key}0"), &key.replace('a', "g")] {
            assert!(bad.parse::<RevokedSubject>().is_err(), "{bad}");
        }
        let revocation = Revocation { subject, issued_before: 1_800_000_000 };
        assert_eq!(revocation.to_string(), format!("{id}, issued until Unix time 1800000000"));
    }

    #[test]
    fn sizes_are_those_of_the_text_and_never_too_small() {
        let id = Revocation {
            subject: "spiffe://iad.mesh/ns/shop/sa/payments".parse().unwrap(),
            issued_before: 9,
        };
        let key = Revocation { subject: RevokedSubject::Key([7; 32]), issued_before: u64::MAX };
        for revocation in [&id, &key] {
            assert_eq!(revocation.encoded_len(), revocation.subject.to_string().len() + 18);
        }
        assert_eq!(
            trust_len(&[vec![0; 100], vec![0; 5]], [&id, &key]),
            123 + id.encoded_len() + key.encoded_len()
        );
    }

    #[test]
    fn revocations_are_stored_as_text() {
        let revocation = Revocation { subject: RevokedSubject::Key([7; 32]), issued_before: 9 };
        let json = serde_json::to_string(&revocation).unwrap();
        assert_eq!(json, format!(r#"{{"subject":"key:{}","issued_before":9}}"#, "07".repeat(32)));
        assert_eq!(serde_json::from_str::<Revocation>(&json).unwrap(), revocation);
        assert!(serde_json::from_str::<Revocation>(&json.replace("07", "x")).is_err());
    }

    proptest! {
        #[test]
        fn a_key_prints_as_it_parses(hash: [u8; 32]) {
            let subject = RevokedSubject::Key(hash);
            prop_assert_eq!(subject.to_string().parse::<RevokedSubject>().unwrap(), subject);
        }

        #[test]
        fn noise_is_refused_without_panic(s in "key:[0-9a-fäx]{0,70}") {
            if let Ok(subject) = s.parse::<RevokedSubject>() {
                prop_assert_eq!(subject.to_string(), s);
            }
        }
    }
}
