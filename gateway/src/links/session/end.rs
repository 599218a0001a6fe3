//! How a connection between linked clusters ends.

use causeway_transport::FrameError;
use causeway_wire::CloseCode;
use std::fmt;

/// Why a connection between linked clusters ended.
#[derive(Debug)]
pub(super) enum End {
    /// The peer removed the link.
    Unlinked,
    /// This cluster removed the link.
    Removed,
    /// The link was made anew, with another key: the next connection is of the new one.
    Renewed,
    /// It passes through other clusters, and a direct connection with the peer stands.
    Roundabout,
    /// This gateway stops.
    Stopping,
    /// The peer said that nothing follows.
    Finished,
    /// The peer's hello did not come.
    NoHello,
    /// The peer is not the gateway that it should be.
    WrongPeer(String),
    /// The peer broke the protocol.
    Violation(String),
    /// Nothing came for too long.
    Silent,
    /// The peer took nothing for too long.
    Stuck,
    /// The stream or the connection failed.
    Lost(FrameError),
    /// This gateway's bookkeeping lost the connection; another one mends it.
    Confused,
}

impl End {
    /// The end that a failure to read means.
    pub(super) fn from_frame(error: FrameError) -> Self {
        match error {
            // the message that says so may have been lost; the close code comes from the authenticated peer, too
            FrameError::Connection(_) if error.reason() == CloseCode::LinkRemoved.reason() => Self::Unlinked,
            FrameError::Codec(error) => Self::Violation(error.to_string()),
            error => Self::Lost(error),
        }
    }

    /// The end that a failure to write means: what cannot be encoded is not the peer's fault.
    pub(super) fn from_write(error: FrameError) -> Self {
        match error {
            FrameError::Codec(_) => Self::Lost(error),
            error => Self::from_frame(error),
        }
    }

    /// What the connection is closed with.
    pub(super) fn closing(&self) -> (CloseCode, String) {
        let code = match self {
            Self::Unlinked | Self::Finished => CloseCode::Done,
            Self::Removed => CloseCode::LinkRemoved,
            Self::Renewed => CloseCode::Superseded,
            Self::Stopping | Self::Roundabout | Self::Silent | Self::Stuck => CloseCode::GoingAway,
            Self::NoHello => CloseCode::HelloTimeout,
            Self::WrongPeer(_) => CloseCode::WrongIdentity,
            Self::Violation(_) => CloseCode::ProtocolViolation,
            Self::Lost(_) | Self::Confused => CloseCode::Internal,
        };
        (code, self.to_string())
    }

    /// The stable word for logs.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Unlinked => CloseCode::LinkRemoved.reason(),
            Self::Silent => "silent",
            Self::Stuck => "write-timeout",
            Self::Roundabout => "direct-again",
            Self::Lost(error) => error.reason(),
            other => other.closing().0.reason(),
        }
    }

    /// Whether somebody should look into it.
    pub(super) fn is_fault(&self) -> bool {
        match self {
            Self::Unlinked
            | Self::Removed
            | Self::Renewed
            | Self::Roundabout
            | Self::Stopping
            | Self::Finished => false,
            Self::Lost(error) => error.reason() != CloseCode::GoingAway.reason(),
            _ => true,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlinked => f.write_str("the peer removed the link"),
            Self::Removed => f.write_str("this cluster removed the link"),
            Self::Renewed => f.write_str("the link was made anew"),
            Self::Roundabout => f.write_str("it passes through other clusters, and a direct one stands"),
            Self::Stopping => f.write_str("this gateway stops"),
            Self::Finished => f.write_str("the peer ended the stream"),
            Self::NoHello => f.write_str("the peer's hello did not arrive in time"),
            Self::WrongPeer(what) => write!(f, "the peer is somebody else: {what}"),
            Self::Violation(what) => write!(f, "the peer broke the protocol: {what}"),
            Self::Silent => f.write_str("nothing came from the peer for too long"),
            Self::Stuck => f.write_str("the peer took no message for too long"),
            Self::Lost(error) => error.fmt(f),
            Self::Confused => f.write_str("this gateway lost track of the connection"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_wire::CodecError;

    #[test]
    fn every_end_has_a_word_and_a_code_that_agree() {
        let violation = End::from_frame(FrameError::Codec(CodecError::Length(9)));
        assert_eq!(
            (violation.reason(), violation.closing().0),
            ("protocol-violation", CloseCode::ProtocolViolation)
        );
        assert!(violation.to_string().contains("frame"), "{violation}");
        assert_eq!(End::Removed.closing().0, CloseCode::LinkRemoved);
        assert_eq!(End::Silent.reason(), "silent");
        assert_eq!(
            (End::Roundabout.reason(), End::Roundabout.closing().0),
            ("direct-again", CloseCode::GoingAway)
        );
        assert!(End::Silent.is_fault() && !End::Stopping.is_fault() && !End::Roundabout.is_fault());
        let lost = End::from_frame(FrameError::Truncated);
        assert!(matches!(lost, End::Lost(_)));
        assert_eq!(lost.reason(), "truncated");
    }
}
