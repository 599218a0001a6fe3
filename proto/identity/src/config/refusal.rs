//! How a [`VerifyError`] travels through rustls, and how to get it back.
//!
//! QUIC sends the text of a handshake error to the peer, who has not been authenticated. So the text that rustls shows
//! says only what the peer showed and why that is not enough; the full cause is recovered with [`explain`].

use crate::VerifyError;
use crate::timestamp::{from_tls, to_tls as tls_time};
use crate::verify::{expired_text, not_yet_valid_text};
use rustls::{CertificateError, Error, OtherError};
use std::fmt;
use std::sync::Arc;

/// The cause inside a rustls error. Shows itself without secrets in both forms, for rustls prints the `Debug` form.
struct Refusal(VerifyError);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.reason(), self.0.for_peer())
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Refusal {}

/// The rustls error with the alert that fits best; where no alert's error has room for the cause, the cause wins.
pub(super) fn to_tls(error: VerifyError) -> Error {
    let error = match error {
        VerifyError::Expired { not_after, now, .. } => {
            CertificateError::ExpiredContext { time: tls_time(now), not_after: tls_time(not_after) }
        }
        VerifyError::NotYetValid { not_before, now, .. } => {
            CertificateError::NotValidYetContext { time: tls_time(now), not_before: tls_time(not_before) }
        }
        other => CertificateError::Other(OtherError(Arc::new(Refusal(other)))),
    };
    Error::InvalidCertificate(error)
}

/// The cause of a failed mesh handshake, where rustls's error still carries it: always, except that of an expired or
/// not yet valid certificate only the times are left.
pub fn refusal(error: &Error) -> Option<&VerifyError> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) => {
            cause.downcast_ref::<Refusal>().map(|refusal| &refusal.0)
        }
        _ => None,
    }
}

/// What to tell the operator about a failed mesh handshake: the full text of the [`VerifyError`]; `None` if the peer's
/// certificate is not what failed. Not for the peer.
pub fn explain(error: &Error) -> Option<String> {
    match error {
        Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => {
            Some(expired_text("", from_tls(*not_after), from_tls(*time)))
        }
        Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => {
            Some(not_yet_valid_text("", from_tls(*not_before), from_tls(*time)))
        }
        Error::NoCertificatesPresented => Some(VerifyError::NoCertificate.to_string()),
        other => refusal(other).map(ToString::to_string),
    }
}
