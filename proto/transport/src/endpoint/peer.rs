//! What a connection says about its peer, and about its own end.

use crate::error::{ConnectError, PeerError};
use causeway_model::{HostPort, SpiffeId};
use causeway_wire::CloseCode;
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, ConnectionError, TransportErrorCode};
use rustls::AlertDescription;
use rustls::pki_types::CertificateDer;
use std::io;
use std::net::SocketAddr;

/// The longest text of a peer's that is shown, in bytes.
const MAX_TEXT: usize = 256;

/// The certificates that the peer showed, leaf first; `None` if it showed none.
pub fn peer_chain(connection: &Connection) -> Option<Vec<CertificateDer<'static>>> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    (!chain.is_empty()).then_some(*chain)
}

/// Who the peer is. Its chain was verified in the handshake.
///
/// # Errors
/// [`PeerError`] if it showed no certificate, or one without a SPIFFE ID.
pub fn peer_identity(connection: &Connection) -> Result<SpiffeId, PeerError> {
    let chain = peer_chain(connection).ok_or(PeerError::NoCertificate)?;
    Ok(causeway_identity::peer_id(&chain)?)
}

/// The protocol that the handshake chose.
pub fn alpn(connection: &Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}

/// A key that both ends of the connection, and nobody else, can derive (RFC 8446 section 7.5).
///
/// # Errors
/// [`ConnectError::Export`] if the TLS session cannot, as before the handshake is complete.
pub fn exporter(connection: &Connection, label: &[u8], context: &[u8]) -> Result<[u8; 32], ConnectError> {
    let mut key = [0; 32];
    connection.export_keying_material(&mut key, label, context).map_err(|_| ConnectError::Export)?;
    Ok(key)
}

/// Closes a connection; `message` is for the peer's operator.
pub fn close(connection: &Connection, code: CloseCode, message: &str) {
    connection.close(code.code().into(), message.as_bytes());
}

/// The stable word for the end of a connection: the close code's own where a side gave one.
pub fn close_reason(error: &ConnectionError) -> &'static str {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            CloseCode::from_code(close.error_code.into_inner()).map_or("closed-by-peer", CloseCode::reason)
        }
        ConnectionError::ConnectionClosed(close) => transport_reason(close.error_code),
        ConnectionError::TransportError(error) => transport_reason(error.code),
        ConnectionError::VersionMismatch => "version-mismatch",
        ConnectionError::Reset => "reset",
        ConnectionError::TimedOut => "timed-out",
        ConnectionError::LocallyClosed => "locally-closed",
        ConnectionError::CidsExhausted => "cids-exhausted",
    }
}

fn transport_reason(code: TransportErrorCode) -> &'static str {
    match code {
        code if alert(code).is_some() => "tls-failed",
        TransportErrorCode::CONNECTION_REFUSED => "connection-refused",
        TransportErrorCode::NO_ERROR | TransportErrorCode::APPLICATION_ERROR => "closed-by-peer",
        _ => "quic-error",
    }
}

/// Whether the peer ended a connection that stood on this side because the certificate that it was shown is revoked: by its close
/// code, or by how it refuses the handshake, of which a client is told after it has completed it.
pub fn says_revoked(error: &ConnectionError) -> bool {
    let word = CloseCode::Revoked.reason();
    match error {
        ConnectionError::ApplicationClosed(_) => close_reason(error) == word,
        ConnectionError::ConnectionClosed(close) => {
            let said = String::from_utf8_lossy(&close.reason);
            close_reason(error) == "tls-failed" && said.contains(&format!("{word}: "))
        }
        _ => false,
    }
}

/// Why a connection ended, as a sentence for an operator: whose doing it was, and the cause as far as it is known.
pub fn close_reason_text(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let code = close.error_code.into_inner();
            let reason = CloseCode::from_code(code)
                .map_or_else(|| format!("code {code}"), |code| code.reason().to_owned());
            format!("the peer closed the connection: {reason}{}", said(&close.reason))
        }
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code) {
            Some(alert) => {
                format!("the peer refused the TLS handshake with alert {alert}{}", said(&close.reason))
            }
            None => {
                format!("the peer's QUIC closed the connection: {}{}", close.error_code, said(&close.reason))
            }
        },
        ConnectionError::TransportError(error) => match alert(error.code) {
            Some(alert) => {
                format!("the TLS handshake failed with alert {alert}{}", said(error.reason.as_bytes()))
            }
            None => format!("QUIC gave up the connection: {}{}", error.code, said(error.reason.as_bytes())),
        },
        ConnectionError::VersionMismatch => {
            "the peer speaks no version of QUIC that this side does".to_owned()
        }
        ConnectionError::Reset => "the peer does not know the connection, it may have restarted".to_owned(),
        ConnectionError::TimedOut => {
            "the peer did not answer in time: it is gone, or no path to it works".to_owned()
        }
        ConnectionError::LocallyClosed => "this side closed the connection".to_owned(),
        ConnectionError::CidsExhausted => "no connection id is free".to_owned(),
    }
}

/// The TLS alert in a QUIC error code (RFC 9001 section 4.8), by its name in RFC 8446.
fn alert(code: TransportErrorCode) -> Option<String> {
    let alert = u64::from(code).checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok())?;
    Some(match AlertDescription::from(alert) {
        AlertDescription::Unknown(number) => number.to_string(),
        known => format!("{known:?} ({alert})"),
    })
}

/// What a peer said, made harmless for a log: bounded, on one line, without control characters.
fn said(text: &[u8]) -> String {
    if text.is_empty() {
        return String::new();
    }
    let shown = String::from_utf8_lossy(&text[..text.len().min(MAX_TEXT)]);
    let shown: String = shown.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!(": {shown}")
}

/// The socket addresses of a host, in the resolver's order.
///
/// # Errors
/// What the resolver says, with the name.
pub async fn resolve(host: &HostPort) -> io::Result<Vec<SocketAddr>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot resolve {host}: {error}"));
    Ok(tokio::net::lookup_host((host.host(), host.port())).await.map_err(named)?.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use quinn::{ApplicationClose, ConnectionClose};

    fn application(code: u32, reason: &'static [u8]) -> ConnectionError {
        ConnectionError::ApplicationClosed(ApplicationClose {
            error_code: code.into(),
            reason: reason.into(),
        })
    }

    #[test]
    fn the_end_of_a_connection_is_told_to_an_operator() {
        let refused = ConnectionError::ConnectionClosed(ConnectionClose {
            error_code: TransportErrorCode::crypto(42),
            frame_type: None,
            reason: b"wrong-identity: not a gateway"[..].into(),
        });
        for (error, reason, text) in [
            (
                application(CloseCode::NotLinked.code(), b"no link to phx"),
                "not-linked",
                "the peer closed the connection: not-linked: no link to phx",
            ),
            (application(999, b""), "closed-by-peer", "the peer closed the connection: code 999"),
            (application(0, b"a\nb\x1b[1m"), "done", "the peer closed the connection: done: a b [1m"),
            (
                refused,
                "tls-failed",
                "the peer refused the TLS handshake with alert BadCertificate (42): wrong-identity: not a gateway",
            ),
            (
                ConnectionError::TimedOut,
                "timed-out",
                "the peer did not answer in time: it is gone, or no path to it works",
            ),
        ] {
            assert_eq!((close_reason(&error), close_reason_text(&error).as_str()), (reason, text));
        }
        assert!(close_reason_text(&application(1, &[b'x'; 5000])).len() < 400);
    }
}
