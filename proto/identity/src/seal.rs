//! Sealing: secrets at rest (the CA's key in the registry's log) under a key that only signing gateways hold.

use crate::{IdentityError, tls};
use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A 256-bit key that seals secrets. Wiped when dropped; `Debug` hides it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SealKey([u8; 32]);

/// A secret that only its [`SealKey`] opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The nonce, random for each sealing.
    pub nonce: [u8; 12],
    /// The encrypted secret and its authentication tag.
    pub ciphertext: Vec<u8>,
}

impl SealKey {
    /// A new random key.
    ///
    /// # Errors
    /// [`IdentityError::Crypto`] if the system gives no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        let mut key = Self([0; 32]);
        fill(&mut key.0)?;
        Ok(key)
    }

    /// The key written as 64 hexadecimal digits; white space around them (a file's last line end) is ignored.
    ///
    /// # Errors
    /// [`IdentityError::SealKey`] if it is anything else. The text is not repeated in the error.
    pub fn from_hex(text: &str) -> Result<Self, IdentityError> {
        let text = text.trim();
        let error = || IdentityError::SealKey { length: text.chars().count() };
        let mut key = Self([0; 32]);
        if HEXLOWER_PERMISSIVE.decode_len(text.len()).ok() != Some(key.0.len()) {
            return Err(error());
        }
        HEXLOWER_PERMISSIVE.decode_mut(text.as_bytes(), &mut key.0).map_err(|_| error())?;
        Ok(key)
    }

    /// The key as 64 hexadecimal digits; wiped when dropped.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(HEXLOWER.encode(&self.0))
    }

    /// Seals `plaintext`. `aad` says what the secret is and must be the same to open it, so that one sealed secret
    /// cannot take the place of another.
    ///
    /// # Errors
    /// [`IdentityError::Crypto`] if the system gives no randomness.
    pub fn seal(&self, plaintext: &[u8], aad: &[u8]) -> Result<Sealed, IdentityError> {
        let mut nonce = [0; 12];
        fill(&mut nonce)?;
        // room for the tag, so that growing the buffer leaves no copy of the secret behind
        let mut buffer = Zeroizing::new(Vec::with_capacity(plaintext.len() + tls::SEAL.tag_len()));
        buffer.extend_from_slice(plaintext);
        self.cipher()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut *buffer)
            .map_err(|_| IdentityError::Crypto { what: "seal a secret" })?;
        Ok(Sealed { nonce, ciphertext: std::mem::take(&mut *buffer) })
    }

    /// Opens what [`SealKey::seal`] made with the same key and `aad`. The secret is wiped when dropped.
    ///
    /// # Errors
    /// [`IdentityError::Unseal`] if the key or `aad` is another, or the data was changed.
    pub fn open(&self, sealed: &Sealed, aad: &[u8]) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
        let mut buffer = Zeroizing::new(sealed.ciphertext.clone());
        let nonce = Nonce::assume_unique_for_key(sealed.nonce);
        let length = self
            .cipher()?
            .open_in_place(nonce, Aad::from(aad), &mut buffer)
            .map_err(|_| IdentityError::Unseal)?
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }

    fn cipher(&self) -> Result<LessSafeKey, IdentityError> {
        let key = UnboundKey::new(tls::SEAL, &self.0);
        Ok(LessSafeKey::new(key.map_err(|_| IdentityError::Crypto { what: "set up a seal key" })?))
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

fn fill(bytes: &mut [u8]) -> Result<(), IdentityError> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| IdentityError::Crypto { what: "get randomness" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_same_key_and_purpose_open() {
        let key = SealKey::generate().unwrap();
        let sealed = key.seal(b"secret", b"ca").unwrap();
        assert_eq!(key.open(&sealed, b"ca").unwrap().as_slice(), b"secret");
        assert_ne!(sealed, key.seal(b"secret", b"ca").unwrap(), "nonces must differ");
        let wrong = SealKey::generate().unwrap().open(&sealed, b"ca").unwrap_err();
        assert_eq!(wrong.reason(), "unseal-failed");
        assert!(wrong.to_string().contains("seal key"), "{wrong}");
        assert!(key.open(&sealed, b"other").is_err());
        let empty = Sealed { nonce: [0; 12], ciphertext: Vec::new() };
        assert!(key.open(&empty, b"ca").is_err());
    }

    #[test]
    fn a_changed_bit_is_noticed_anywhere() {
        let key = SealKey::generate().unwrap();
        let sealed = key.seal(b"secret", b"ca").unwrap();
        for at in 0..sealed.ciphertext.len() {
            let mut changed = sealed.clone();
            changed.ciphertext[at] ^= 1;
            assert!(key.open(&changed, b"ca").is_err(), "byte {at}");
        }
        let mut changed = sealed.clone();
        changed.nonce[0] ^= 1;
        assert!(key.open(&changed, b"ca").is_err());
    }

    #[test]
    fn keys_are_read_from_files_and_never_shown() {
        let key = SealKey::generate().unwrap();
        let hex = key.to_hex();
        let again = SealKey::from_hex(&format!("  {}\n", hex.to_uppercase())).unwrap();
        assert_eq!(again.0, key.0);
        assert_eq!(format!("{key:?}"), "SealKey(..)");
        for bad in ["", "00", &"g".repeat(64), &"0".repeat(65), &"ä".repeat(32)] {
            let error = SealKey::from_hex(bad).unwrap_err().to_string();
            assert!(error.contains("64 hexadecimal"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(secret: Vec<u8>, aad: Vec<u8>) {
            let key = SealKey::generate().unwrap();
            let sealed = key.seal(&secret, &aad).unwrap();
            let opened = key.open(&sealed, &aad).unwrap();
            prop_assert_eq!(&*opened, &secret);
        }
    }
}
