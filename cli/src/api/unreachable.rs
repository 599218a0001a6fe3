//! Why a request got no answer, in the operator's words.

use crate::failure::Failure;
use rustls::{CertificateError, Error as TlsError};
use std::io::{self, ErrorKind};
use ureq::{Error, Timeout};

const RUNNING: &str = "is the gateway running, and is this the address of its --admin? see its log";
const CLOCK: &str = "compare the clocks of this machine and of the gateway (`date -u` on both)";
const CONTEXT: &str = "is it the right context? choose with --context NAME";

/// What to tell about a request to `url` that failed with `error`; `origin` says which context it was.
pub(super) fn explain(url: &str, origin: &str, error: &Error) -> Failure {
    match error {
        Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
            Some(tls) => explain_tls(url, origin, tls),
            None => explain_io(url, error),
        },
        Error::Rustls(error) => explain_tls(url, origin, error),
        Error::Timeout(which) => explain_timeout(url, *which),
        Error::HostNotFound => unreachable("host_not_found", url, "the name of the host does not resolve")
            .fix("check the spelling, or give --admin with an IP address"),
        Error::BadUri(what) => Failure::new("admin_url", format!("cannot use the address {url}"))
            .cause(format!("it is not a URL: {what}"))
            .fix("write https://HOST:PORT"),
        Error::Json(_) | Error::Protocol(_) | Error::LargeResponseHeader(..) | Error::BodyExceedsLimit(_) => {
            Failure::new("not_a_gateway", format!("{url} gave an answer that is not the admin API's"))
                .cause(error.to_string())
                .fix("compare the releases: `causeway --version` here and on the gateway")
                .fix("is it the admin address, and not that of the telemetry or of another program?")
        }
        other => unreachable("unreachable", url, other.to_string()).fix(RUNNING),
    }
}

fn unreachable(reason: &str, url: &str, cause: impl Into<String>) -> Failure {
    Failure::new(reason, format!("cannot reach the gateway at {url}")).cause(cause)
}

fn explain_io(url: &str, error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            unreachable("refused", url, "connection refused: nothing listens there")
                .fix(RUNNING)
                .fix("was its --admin changed? then copy its context file again, or give --admin URL")
        }
        ErrorKind::TimedOut | ErrorKind::WouldBlock => explain_timeout(url, Timeout::Connect),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            unreachable("no_route", url, error.to_string())
                .fix("check the routes and the VPN of this machine")
        }
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => {
            unreachable("closed", url, "the connection was closed before an answer came")
                .fix("is the gateway shutting down, or is this not its admin address? see its log")
        }
        _ => unreachable("unreachable", url, error.to_string()).fix(RUNNING),
    }
}

fn explain_timeout(url: &str, which: Timeout) -> Failure {
    match which {
        Timeout::Connect | Timeout::Resolve => unreachable("connect_timeout", url, "no answer to the connection in 3 s")
            .fix("is a firewall in between? the admin port is TCP, 7444 unless --admin says otherwise")
            .fix(RUNNING),
        _ => Failure::new("timeout", format!("the gateway at {url} did not answer in time"))
            .cause("the connection stands, but the request is not done")
            .fix("has the registry lost its majority? ask another gateway: `causeway status --admin URL --credential FILE`")
            .fix("a change may have been made nevertheless: look before trying again"),
    }
}

fn explain_tls(url: &str, origin: &str, error: &TlsError) -> Failure {
    let distrust = |cause: String| {
        Failure::new("certificate", format!("the gateway at {url} is not trusted")).cause(cause)
    };
    match error {
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            distrust(format!("its certificate is not of the cluster that {origin} was made for"))
                .fix(CONTEXT)
                .fix("was the cluster made anew? then copy its new context file")
        }
        TlsError::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => distrust(error.to_string())
            .fix(CLOCK)
            .fix("if both are right, restart the gateway and see its log"),
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => distrust(error.to_string())
            .fix("use the address that the gateway's --admin has, as its context does"),
        TlsError::InvalidMessage(_) => Failure::new("not_tls", format!("{url} does not speak HTTPS"))
            .cause(error.to_string())
            .fix("is it the admin address, and not that of the telemetry or of another program?"),
        other => distrust(other.to_string()).fix(CONTEXT).fix(CLOCK),
    }
}
