//! Values that must not be shown.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// What is shown in place of a secret.
const MASK: &str = "***";

/// A value that prints, logs and serializes as `***`. Only [`Secret::expose`] gives it out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret<T>(T);

/// A secret that is not what its type requires. It does not repeat the value, nor the cause, which might.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid value (not shown, because it is a secret)")]
pub struct SecretError;

impl<T> Secret<T> {
    /// Hides `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value. Take care where it goes.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// The value, no longer hidden.
    pub fn into_exposed(self) -> T {
        self.0
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl<T: FromStr> FromStr for Secret<T> {
    type Err = SecretError;

    fn from_str(s: &str) -> Result<Self, SecretError> {
        s.parse().map(Self).map_err(|_| SecretError)
    }
}

impl<T> Serialize for Secret<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_shows() {
        let secret = "hunter2".parse::<Secret<String>>().unwrap();
        let json = serde_json::to_string(&secret).unwrap();
        for shown in [format!("{secret}"), format!("{secret:?}"), format!("{:#?}", Some(&secret)), json] {
            assert!(shown.contains("***") && !shown.contains("hunter2"), "{shown}");
        }
        assert_eq!(secret.expose(), "hunter2");
        assert!(!format!("{}", "12x".parse::<Secret<u32>>().unwrap_err()).contains("12x"));
    }

    #[test]
    fn a_secret_is_read_as_its_value() {
        assert_eq!(serde_json::from_str::<Secret<u32>>("7").unwrap().into_exposed(), 7);
    }
}
