//! Whose fault a failure is: the endpoint's, or that of what is between.

use crate::failure::Failure;
use crate::outbound::elsewhere;
use crate::relay::End;
use causeway_balance::Fault;
use causeway_wire::CloseCode;

/// What the endpoint did wrong by which an attempt failed; `None` if it was the path, a gateway, the caller or nobody.
pub(crate) fn fault_of(failure: &Failure) -> Option<Fault> {
    match failure {
        Failure::Refused { code, .. } => elsewhere(*code).then_some(Fault::Refused),
        Failure::WrongIdentity { .. } => Some(Fault::Refused),
        Failure::Connection { reason, .. } => fault_of_connection(reason),
        _ => None,
    }
}

/// The same for a connection that was carried, and ended with `end` before the endpoint's first byte.
pub(crate) fn fault_of_end(end: End) -> Option<Fault> {
    match end {
        End::Connection(reason) => fault_of_connection(reason).map(|_| Fault::Broken),
        End::Stream(code) => match CloseCode::from_code(code) {
            Some(CloseCode::TcpReset | CloseCode::Internal | CloseCode::Overloaded) => Some(Fault::Broken),
            _ => None,
        },
        _ => None,
    }
}

fn fault_of_connection(reason: &str) -> Option<Fault> {
    match CloseCode::from_reason(reason) {
        // it took another connection, or this side ended it
        Some(CloseCode::Done | CloseCode::Superseded | CloseCode::Revoked | CloseCode::LinkRemoved) => None,
        Some(
            CloseCode::GoingAway
            | CloseCode::WrongIdentity
            | CloseCode::WrongRole
            | CloseCode::InstanceGone
            | CloseCode::Draining
            | CloseCode::Overloaded,
        ) => Some(Fault::Refused),
        Some(_) => Some(Fault::Broken),
        // nothing is heard: that is the path until the contrary is known
        None if reason == "timed-out" => None,
        None => Some(Fault::Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn refused(code: CloseCode) -> Failure {
        Failure::Refused { endpoint: "x".into(), code: code.code().into() }
    }

    fn lost(reason: &'static str) -> Failure {
        Failure::Connection { endpoint: "x".into(), reason, text: String::new() }
    }

    #[test]
    fn what_a_path_or_a_caller_did_is_no_fault() {
        for failure in [
            refused(CloseCode::Denied),
            lost("timed-out"),
            lost("superseded"),
            Failure::Silent { endpoint: "x".into() },
            Failure::Timeout { what: "x", limit: Duration::ZERO },
            Failure::NoGateway { service: "a.b".parse().unwrap() },
            Failure::ClientGone,
        ] {
            assert_eq!(fault_of(&failure), None, "{failure}");
        }
        for end in
            [End::Done, End::TcpReset, End::Connection("timed-out"), End::Stream(39), End::Stream(1 << 40)]
        {
            assert_eq!(fault_of_end(end), None, "{end:?}");
        }
    }

    #[test]
    fn a_refusal_is_enough_and_a_break_is_not() {
        for code in [CloseCode::UpstreamRefused, CloseCode::Draining, CloseCode::PortUnknown] {
            assert_eq!(fault_of(&refused(code)), Some(Fault::Refused));
        }
        assert_eq!(fault_of(&lost("going-away")), Some(Fault::Refused));
        assert_eq!(fault_of(&lost("protocol-violation")), Some(Fault::Broken));
        assert_eq!(fault_of(&lost("stream-closed")), Some(Fault::Broken));
        assert_eq!(fault_of_end(End::Stream(32)), Some(Fault::Broken));
        assert_eq!(fault_of_end(End::Connection("going-away")), Some(Fault::Broken));
    }
}
