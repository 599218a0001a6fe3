//! The numbers of tokens and invites.

use causeway_model::ParseError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; 8]);

        impl From<[u8; 8]> for $name {
            fn from(bytes: [u8; 8]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", u64::from_be_bytes(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(s: &str) -> Result<Self, ParseError> {
                let digit = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
                let exact = s.len() == 16 && s.bytes().all(digit);
                u64::from_str_radix(s, 16)
                    .ok()
                    .filter(|_| exact)
                    .map(|id| Self(id.to_be_bytes()))
                    .ok_or_else(|| ParseError::new($what, s, "write 16 lower-case hexadecimal digits"))
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseError;

            fn try_from(s: String) -> Result<Self, ParseError> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

hex_id!(
    /// The public number of a join token; its secret is known only to who holds the token. Written as 16 hexadecimal
    /// digits.
    TokenId,
    "token id"
);
hex_id!(
    /// The public number of a link invite. Written as 16 hexadecimal digits.
    InviteId,
    "invite id"
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_prints_as_it_parses(bytes: [u8; 8], s in "[0-9a-fA-F+]{0,17}") {
            prop_assert_eq!(TokenId(bytes).to_string().parse::<TokenId>().unwrap(), TokenId(bytes));
            if let Ok(id) = s.parse::<InviteId>() {
                prop_assert_eq!(id.to_string(), s);
            }
        }
    }
}
