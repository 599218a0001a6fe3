//! A control connection's stream: hello and welcome, then questions with one answer each.
//!
//! Owns the order of the first frames and how long each is waited for. What the answers mean is the caller's.

use causeway_model::WorkloadId;
use causeway_transport::says_revoked;
use causeway_transport::{Connection, FrameError, FrameReader, FrameWriter};
use causeway_wire::ctl::{Hello, ToGateway, ToSidecar, Welcome};
use causeway_wire::view::{Refusal, VersionInfo};
use std::time::Duration;

/// How long a gateway may take to welcome.
const WELCOME_WITHIN: Duration = Duration::from_secs(3);
/// How long a gateway may take to answer: joining is a write to the registry, which may elect a leader meanwhile.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The most frames that are passed over while an answer is awaited.
const MAX_PASSED: usize = 256;

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The connection or its stream ended.
    #[error(transparent)]
    Stream(#[from] FrameError),
    /// The gateway refused the request.
    #[error("{} ({})", .0.message, .0.reason)]
    Refused(Refusal),
    /// There was no answer.
    #[error("it did not answer to {0} within {1:?}")]
    Timeout(&'static str, Duration),
    /// The gateway ended the stream, or said what does not fit.
    #[error("it broke the protocol: {0}")]
    Protocol(&'static str),
}

impl Fault {
    /// Whether the gateway ended the connection because this sidecar's certificate is revoked.
    pub(crate) fn says_revoked(&self) -> bool {
        matches!(self, Self::Stream(FrameError::Connection(error)) if says_revoked(error))
    }
}

/// An open control stream, after the welcome.
pub(crate) struct Exchange {
    pub(crate) reader: FrameReader,
    pub(crate) writer: FrameWriter,
    pub(crate) welcome: Welcome,
    requests: u32,
}

impl Exchange {
    /// Opens the stream of `connection` and greets, as `workload` once there is one.
    pub(crate) async fn open(connection: &Connection, workload: Option<WorkloadId>) -> Result<Self, Fault> {
        let greet = async {
            let (send, recv) = connection.open_bi().await.map_err(FrameError::Connection)?;
            let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(recv));
            let hello = Hello { version: VersionInfo::current(), workload };
            writer.send(&ToGateway::from(hello)).await?;
            match reader.next::<ToSidecar>().await? {
                Some(ToSidecar::Welcome(welcome)) => Ok(Self { reader, writer, welcome, requests: 0 }),
                Some(ToSidecar::Refused(refusal)) => Err(Fault::Refused(refusal)),
                Some(_) => Err(Fault::Protocol("its first message is no welcome")),
                None => Err(Fault::Protocol("it ended the stream without a welcome")),
            }
        };
        tokio::time::timeout(WELCOME_WITHIN, greet)
            .await
            .unwrap_or(Err(Fault::Timeout("hello", WELCOME_WITHIN)))
    }

    /// Asks with the message that `build` makes of the request's number; the answer to it, whatever it is.
    pub(crate) async fn ask(
        &mut self,
        what: &'static str,
        build: impl FnOnce(u32) -> ToGateway,
    ) -> Result<ToSidecar, Fault> {
        self.requests += 1;
        let request = self.requests;
        let answered = async {
            self.writer.send(&build(request)).await?;
            for _ in 0..MAX_PASSED {
                let message = self.reader.next::<ToSidecar>().await?;
                let message = message.ok_or(Fault::Protocol("it ended the stream without an answer"))?;
                match message {
                    ToSidecar::Refused(refusal) if [0, request].contains(&refusal.request) => {
                        return Err(Fault::Refused(refusal));
                    }
                    other if answers(&other) == Some(request) => return Ok(other),
                    _ => {}
                }
            }
            Err(Fault::Protocol("it said much and did not answer"))
        };
        tokio::time::timeout(ANSWER_WITHIN, answered)
            .await
            .unwrap_or(Err(Fault::Timeout(what, ANSWER_WITHIN)))
    }
}

/// The request that a message answers.
fn answers(message: &ToSidecar) -> Option<u32> {
    match message {
        ToSidecar::Issued(issued) => Some(issued.request),
        ToSidecar::Attached(attached) => Some(attached.request),
        ToSidecar::Registered(registered) => Some(registered.request),
        _ => None,
    }
}
