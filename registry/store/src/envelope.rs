//! The wrapping of every record: its version, its length and a checksum over what it is.
//!
//! ```text
//! version (2) | length of the payload (4) | checksum (16) | payload
//! ```
//!
//! in network byte order. The checksum is the start of SHA-256 over the kind's name, the version, the length and the
//! payload, so that a record of one kind does not pass for one of another.

use causeway_catalog::{Catalog, Command};
use causeway_wire::CodecError;
use causeway_wire::codec::{from_slice_unlimited, to_vec_unlimited};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

const SUM_LEN: usize = 16;
const HEADER_LEN: usize = 2 + 4 + SUM_LEN;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Whose database it is.
    Identity,
    /// The last vote.
    Vote,
    /// The last log id that is known to be committed.
    Committed,
    /// The last log id that was purged.
    Purged,
    /// One log entry.
    Entry,
    /// What a snapshot covers.
    SnapshotMeta,
    /// A whole catalog.
    Snapshot,
    /// A backup.
    Backup,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Vote => "vote",
            Self::Committed => "committed mark",
            Self::Purged => "purge mark",
            Self::Entry => "log entry",
            Self::SnapshotMeta => "snapshot description",
            Self::Snapshot => "snapshot",
            Self::Backup => "backup",
        }
    }

    /// The version that this release writes, and the newest that it reads.
    pub(crate) fn version(self) -> u16 {
        match self {
            Self::Entry => Command::VERSION,
            Self::Snapshot => Catalog::VERSION,
            _ => 1,
        }
    }
}

/// Why a record was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvelopeError {
    #[error("{0} bytes are too few for a record")]
    Short(usize),
    #[error("it announces {announced} bytes and has {found}")]
    Length { announced: usize, found: usize },
    #[error("its checksum does not match")]
    Checksum,
    #[error("it has version {found} and this release knows {known}")]
    Version { found: u16, known: u16 },
    #[error(transparent)]
    Codec(#[from] CodecError),
}

fn checksum(kind: Kind, head: &[u8], payload: &[u8]) -> [u8; SUM_LEN] {
    let mut hash = Sha256::new();
    hash.update(kind.name().as_bytes());
    hash.update([0]);
    hash.update(head);
    hash.update(payload);
    let mut sum = [0; SUM_LEN];
    sum.copy_from_slice(&hash.finalize()[..SUM_LEN]);
    sum
}

/// The record of `value`.
pub(crate) fn seal<T: Serialize>(kind: Kind, value: &T) -> Result<Vec<u8>, CodecError> {
    wrap(kind, kind.version(), &to_vec_unlimited(value)?)
}

fn wrap(kind: Kind, version: u16, payload: &[u8]) -> Result<Vec<u8>, CodecError> {
    let too_large = CodecError::TooLarge { what: kind.name(), size: payload.len() };
    let length = u32::try_from(payload.len()).map_err(|_| too_large)?;
    let mut record = Vec::with_capacity(HEADER_LEN + payload.len());
    record.extend_from_slice(&version.to_be_bytes());
    record.extend_from_slice(&length.to_be_bytes());
    let sum = checksum(kind, &record, payload);
    record.extend_from_slice(&sum);
    record.extend_from_slice(payload);
    Ok(record)
}

/// A record as another release might write it.
#[cfg(test)]
pub(crate) fn seal_as(kind: Kind, version: u16, payload: &[u8]) -> Vec<u8> {
    wrap(kind, version, payload).unwrap()
}

/// The value of a record, which may be damaged or of another release.
pub(crate) fn unseal<T: DeserializeOwned>(kind: Kind, record: &[u8]) -> Result<T, EnvelopeError> {
    let (head, payload) = record.split_at_checked(HEADER_LEN).ok_or(EnvelopeError::Short(record.len()))?;
    let (head, sum) = head.split_at(HEADER_LEN - SUM_LEN);
    let announced = u32::from_be_bytes([head[2], head[3], head[4], head[5]]) as usize;
    if announced != payload.len() {
        return Err(EnvelopeError::Length { announced, found: payload.len() });
    }
    if checksum(kind, head, payload) != *sum {
        return Err(EnvelopeError::Checksum);
    }
    // after the checksum: a damaged version is damage, not a later release
    let found = u16::from_be_bytes([head[0], head[1]]);
    if found != kind.version() {
        return Err(EnvelopeError::Version { found, known: kind.version() });
    }
    Ok(from_slice_unlimited(payload)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_reads_back_and_no_changed_bit_passes(text in ".{0,40}", at: prop::sample::Index, bit in 0u8..8) {
            let mut record = seal(Kind::Vote, &text).unwrap();
            prop_assert_eq!(unseal::<String>(Kind::Vote, &record).unwrap(), text);
            let at = at.index(record.len());
            record[at] ^= 1 << bit;
            prop_assert!(unseal::<String>(Kind::Vote, &record).is_err());
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
            prop_assert!(unseal::<Vec<String>>(Kind::Entry, &bytes).is_err());
        }
    }

    #[test]
    fn a_record_of_one_kind_is_not_one_of_another() {
        let record = seal(Kind::Purged, &7u64).unwrap();
        assert_eq!(unseal::<u64>(Kind::Committed, &record), Err(EnvelopeError::Checksum));
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let record = seal_as(Kind::Vote, 9, b"new");
        assert_eq!(unseal::<u64>(Kind::Vote, &record), Err(EnvelopeError::Version { found: 9, known: 1 }));
    }
}
