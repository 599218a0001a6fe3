//! Keys and verifiers that the catalog carries: arrays of bytes that never show in logs.
//!
//! The catalog only stores them. What they are for, and how they are compared, belongs to whoever uses them.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub [u8; $len]);

        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(****)"))
            }
        }
    };
}

secret!(
    /// The key of one epoch that encrypts workload ids in connection IDs.
    CidKey,
    16
);
secret!(
    /// The key of one epoch from which the keys of probes are derived.
    ProbeKey,
    32
);
secret!(
    /// The key that the gateways of two linked clusters share.
    LinkKey,
    32
);
secret!(
    /// What proves the secret of a token or an invite. Equality (`==`) is not in constant time: check a proof elsewhere.
    Verifier,
    32
);
