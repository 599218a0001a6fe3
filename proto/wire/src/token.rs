//! Tokens: what an operator copies from one side to the other, and the proofs of knowing one.
//!
//! A token is `cwj1_` (join) or `cwl1_` (link) and the base64url (RFC 4648 section 5) of its encoded content with 4 bytes of
//! SHA-256 over it, so that a token cut short by a copy is told from one that was never valid. Gateways store only the
//! SHA-256 of the secret; it is the key of the proofs, which are bound to the TLS session by its exporter (RFC 8446 section 7.5).

use crate::codec::{self, CodecError};
use crate::mac::{mac_tag, verify_tag};
use causeway_model::{ClusterId, ClusterName, GatewayRole, HostPort, ServiceName, TrustDomain};
use data_encoding::BASE64URL_NOPAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// The longest token, in characters.
pub const MAX_TOKEN: usize = 8192;
/// The label of the TLS exporter that proofs are bound to.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-causeway-token";

/// The facts that every token has.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCore {
    /// Names the token in the registry and in logs.
    pub id: [u8; 8],
    /// What proves it.
    pub secret: [u8; 32],
    /// The cluster that made it.
    pub cluster: ClusterName,
    /// That cluster's id.
    pub cluster_id: ClusterId,
    /// That cluster's trust domain.
    pub trust_domain: TrustDomain,
    /// SHA-256 of that cluster's root certificate (DER).
    pub root_fingerprint: [u8; 32],
    /// Where its gateways are reached, best first.
    pub gateways: Vec<HostPort>,
    /// When it ends, in seconds since 1970.
    pub expires_at: u64,
}

impl TokenCore {
    /// What the registry stores of the secret: its SHA-256, the key of the proofs.
    pub fn verifier(&self) -> [u8; 32] {
        Sha256::digest(self.secret).into()
    }

    /// The id as text.
    pub fn id_text(&self) -> String {
        token_id_text(&self.id)
    }
}

impl fmt::Debug for TokenCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token {} of {}", self.id_text(), self.cluster)
    }
}

/// A token id as text: 16 hexadecimal digits.
pub fn token_id_text(id: &[u8; 8]) -> String {
    data_encoding::HEXLOWER.encode(id)
}

/// A token id from its text.
pub fn parse_token_id(text: &str) -> Option<[u8; 8]> {
    data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// Who may join with a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinFor {
    /// A sidecar whose workload may serve these services.
    Workload(Vec<ServiceName>),
    /// A gateway.
    Gateway(GatewayRole),
}

/// A token to join a cluster with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// The facts.
    pub core: TokenCore,
    /// Who may join.
    pub join: JoinFor,
}

/// A token to link a cluster with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkToken {
    /// The facts.
    pub core: TokenCore,
    /// The cluster that it is for, if it is for one only.
    pub for_cluster: Option<ClusterName>,
}

/// Why a text is not a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin as a token of this kind does.
    #[error("this is not a {expected} token: one begins with {prefix}; {hint}")]
    Kind {
        /// The kind that was expected.
        expected: &'static str,
        /// How it begins.
        prefix: &'static str,
        /// What was given instead, and what to do.
        hint: &'static str,
    },
    /// It was cut short or changed.
    #[error("the {0} token is damaged: its checksum does not match; copy all of it, without line breaks")]
    Damaged(&'static str),
    /// Its content cannot be read.
    #[error("the {0} token is of another release: {1}")]
    Content(&'static str, CodecError),
}

impl TokenError {
    /// The stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Kind { .. } => "token-kind",
            Self::Damaged(_) => "token-damaged",
            Self::Content(..) => "token-content",
        }
    }
}

const JOIN: (&str, &str) = ("join", "cwj1_");
const LINK: (&str, &str) = ("link", "cwl1_");

fn print<T: Serialize>(prefix: &str, token: &T) -> String {
    // a token holds a handful of names and addresses: encoding it cannot fail, and an empty body is refused by `read`
    let mut body = codec::to_vec(token).unwrap_or_default();
    let sum = Sha256::digest(&body);
    body.extend_from_slice(&sum[..4]);
    format!("{prefix}{}", BASE64URL_NOPAD.encode(&body))
}

fn read<T: DeserializeOwned>(
    (kind, prefix): (&'static str, &'static str),
    text: &str,
) -> Result<T, TokenError> {
    let text = text.trim();
    let body = text.strip_prefix(prefix).ok_or_else(|| TokenError::Kind {
        expected: kind,
        prefix,
        hint: if text.starts_with(LINK.1) {
            "this one is for `causeway link accept`"
        } else if text.starts_with(JOIN.1) {
            "this one is for `causeway sidecar --token` or `causeway gateway --join`"
        } else {
            "make one with `causeway token create` or `causeway link invite`"
        },
    })?;
    if text.len() > MAX_TOKEN {
        return Err(TokenError::Damaged(kind));
    }
    let bytes = BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| TokenError::Damaged(kind))?;
    let (content, sum) = bytes.split_last_chunk::<4>().ok_or(TokenError::Damaged(kind))?;
    if Sha256::digest(content)[..4] != *sum {
        return Err(TokenError::Damaged(kind));
    }
    codec::from_slice(content).map_err(|error| TokenError::Content(kind, error))
}

macro_rules! text_form {
    ($name:ident, $kind:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&print($kind.1, self))
            }
        }

        impl FromStr for $name {
            type Err = TokenError;

            fn from_str(text: &str) -> Result<Self, TokenError> {
                read($kind, text)
            }
        }
    };
}

text_form!(JoinToken, JOIN);
text_form!(LinkToken, LINK);

/// The proof that the sender of a join request knows the token: over the TLS session's exporter and the CSR.
pub fn join_proof(verifier: &[u8; 32], exporter: &[u8; 32], csr: &[u8]) -> [u8; 32] {
    mac_tag(verifier, &[b"causeway join", exporter, csr])
}

/// Checks a [`join_proof`].
pub fn verify_join_proof(verifier: &[u8; 32], exporter: &[u8; 32], csr: &[u8], proof: &[u8; 32]) -> bool {
    verify_tag(verifier, &[b"causeway join", exporter, csr], proof)
}

/// Which side of a pairing speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairSide {
    /// The side that made the token.
    Inviting,
    /// The side that accepts it.
    Accepting,
}

impl PairSide {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Inviting => b"causeway pair inviting",
            Self::Accepting => b"causeway pair accepting",
        }
    }
}

/// The proof that one side of a pairing knows the token: over the TLS session's exporter and what it says of itself.
pub fn pair_proof(
    side: PairSide,
    verifier: &[u8; 32],
    exporter: &[u8; 32],
    introduction: &crate::link::Introduction,
) -> Result<[u8; 32], CodecError> {
    Ok(mac_tag(verifier, &[side.label(), exporter, &codec::to_vec(introduction)?]))
}

/// Checks a [`pair_proof`].
pub fn verify_pair_proof(
    side: PairSide,
    verifier: &[u8; 32],
    exporter: &[u8; 32],
    introduction: &crate::link::Introduction,
    proof: &[u8; 32],
) -> bool {
    codec::to_vec(introduction)
        .is_ok_and(|told| verify_tag(verifier, &[side.label(), exporter, &told], proof))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> JoinToken {
        JoinToken {
            core: TokenCore {
                id: [1; 8],
                secret: [2; 32],
                cluster: "iad".parse().unwrap(),
                cluster_id: ClusterId::new(9).unwrap(),
                trust_domain: "iad.mesh".parse().unwrap(),
                root_fingerprint: [3; 32],
                gateways: vec!["127.0.0.1:7443".parse().unwrap()],
                expires_at: 1_800_000_000,
            },
            join: JoinFor::Workload(vec!["payments.shop".parse().unwrap()]),
        }
    }

    #[test]
    fn a_token_reads_as_printed_and_hides_its_secret() {
        let text = token().to_string();
        assert_eq!(format!(" {text}\n").parse::<JoinToken>().unwrap(), token());
        assert!(!format!("{:?}", token()).contains("[2, 2"));
    }

    #[test]
    fn a_wrong_or_damaged_token_says_what_to_do() {
        let text = token().to_string();
        assert!(matches!(text[..text.len() - 3].parse::<JoinToken>(), Err(TokenError::Damaged("join"))));
        let error = text.parse::<LinkToken>().unwrap_err().to_string();
        assert!(error.contains("causeway sidecar --token"), "{error}");
        assert!("hunter2".parse::<JoinToken>().unwrap_err().to_string().contains("causeway token create"));
    }

    #[test]
    fn proofs_are_bound_to_session_and_content() {
        let verifier = token().core.verifier();
        let proof = join_proof(&verifier, &[5; 32], b"csr");
        assert!(verify_join_proof(&verifier, &[5; 32], b"csr", &proof));
        assert!(!verify_join_proof(&verifier, &[6; 32], b"csr", &proof));
        assert!(!verify_join_proof(&verifier, &[5; 32], b"other", &proof));
        assert!(!verify_join_proof(&[0; 32], &[5; 32], b"csr", &proof));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(cwj1_|cwl1_)?[A-Za-z0-9_-]{0,200}") {
            let _ = (text.parse::<JoinToken>(), text.parse::<LinkToken>());
        }
    }
}
