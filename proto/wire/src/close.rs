//! Why a connection or a stream ended: the application error codes of RFC 9000 section 20.2.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $reason:literal;)*) => {
        /// Why a connection was closed, or a stream refused, reset or stopped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CloseCode {
            $($(#[$doc])* $name,)*
        }

        impl CloseCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The number on the wire.
            pub const fn code(self) -> u32 {
                match self { $(Self::$name => $value),* }
            }

            /// The stable word for logs, metrics and HTTP answers.
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason),* }
            }

            /// The code with this number; `None` for a number of a later release.
            pub fn from_code(code: u64) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| u64::from(known.code()) == code)
            }

            /// The code with this reason.
            pub fn from_reason(reason: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.reason() == reason)
            }
        }
    };
}

codes! {
    /// The work is done.
    Done = 0, "done";
    /// The process is shutting down.
    GoingAway = 1, "going-away";
    /// The peer broke the protocol.
    ProtocolViolation = 2, "protocol-violation";
    /// The certificate's role may not speak this protocol.
    WrongRole = 3, "wrong-role";
    /// The certificate's identity is not the one that was expected.
    WrongIdentity = 4, "wrong-identity";
    /// The trust domain is that of no linked cluster.
    NotLinked = 5, "not-linked";
    /// The token is unknown, used, expired, revoked or for something else.
    TokenRefused = 6, "token-refused";
    /// The link was removed.
    LinkRemoved = 7, "link-removed";
    /// The instance at the other end is gone.
    InstanceGone = 8, "instance-gone";
    /// The hello did not arrive in time.
    HelloTimeout = 9, "hello-timeout";
    /// A newer connection of the same peer took over.
    Superseded = 10, "superseded";
    /// A limit on connections, streams or memory was reached.
    Overloaded = 11, "overloaded";
    /// Our own mistake.
    Internal = 12, "internal";
    /// The peer's certificate was revoked.
    Revoked = 13, "revoked";

    /// The TCP connection behind the stream was reset by the application or its peer.
    TcpReset = 32, "tcp-reset";
    /// The workload does not serve this service.
    ServiceUnknown = 33, "service-unknown";
    /// The service does not have this port.
    PortUnknown = 34, "port-unknown";
    /// The service is not exported to the caller's cluster.
    NotExported = 35, "not-exported";
    /// The application behind the sidecar refused the connection.
    UpstreamRefused = 36, "upstream-refused";
    /// The application behind the sidecar did not answer in time.
    UpstreamTimeout = 37, "upstream-timeout";
    /// The application behind the sidecar could not be reached for another reason.
    UpstreamUnreachable = 38, "upstream-unreachable";
    /// Policy denies the caller.
    Denied = 39, "denied";
    /// The workload takes no new streams.
    Draining = 40, "draining";
    /// The caller's identity has no role that may open streams.
    NotAWorkload = 41, "not-a-workload";
    /// The caller's deadline has passed.
    DeadlineExceeded = 42, "deadline-exceeded";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_and_reasons_are_unique_and_read_back() {
        let numbers: BTreeSet<u32> = CloseCode::ALL.iter().map(|c| c.code()).collect();
        let reasons: BTreeSet<&str> = CloseCode::ALL.iter().map(|c| c.reason()).collect();
        assert_eq!((numbers.len(), reasons.len()), (CloseCode::ALL.len(), CloseCode::ALL.len()));
        for &code in CloseCode::ALL {
            assert_eq!(CloseCode::from_code(code.code().into()), Some(code));
            assert_eq!(CloseCode::from_reason(code.reason()), Some(code));
        }
        assert_eq!(CloseCode::from_code(1 << 40), None);
    }
}
