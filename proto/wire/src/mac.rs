//! Keyed tags: HMAC-SHA-256 (RFC 2104) for probes and for proofs of a token's secret.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes a key of any length: the error is unreachable, and an all-zero key is a value no tag verifies under
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// A key for one purpose out of another key: HMAC-SHA-256(`key`, `label` || 0 || `context`).
pub fn derive_key(key: &[u8; 32], label: &str, context: &[u8]) -> [u8; 32] {
    hmac(key, &[label.as_bytes(), &[0], context])
}

/// The tag of `parts`, concatenated, under `key`.
pub fn mac_tag(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    hmac(key, parts)
}

/// Whether `tag` (1 to 32 bytes) is the start of the tag of `parts` under `key`; takes the same time either way.
pub fn verify_tag(key: &[u8; 32], parts: &[&[u8]], tag: &[u8]) -> bool {
    let full = hmac(key, parts);
    !tag.is_empty() && tag.len() <= full.len() && bool::from(full[..tag.len()].ct_eq(tag))
}
