//! `causeway-ctl/1`: sessions with sidecars.
//!
//! Owns what a sidecar may ask and what it is told. Who it is was decided by its certificate; what it learns comes from the
//! hub.

mod issue;
mod limits;
mod register;
mod session;
mod tell;
mod vips;

pub(crate) use issue::{Shown, prove, spend};

use crate::hub::{Hub, Meter, TooMany};
use causeway_model::SpiffeId;
use causeway_transport::{Connection, FrameError, FrameReader, FrameWriter, close, peer_chain};
use causeway_wire::CloseCode;
use causeway_wire::ctl::{Hello, ToGateway, ToSidecar, Welcome};
use causeway_wire::view::{Refusal, VersionInfo};
use std::time::Duration;

/// How long a sidecar has for its first frame, and to take a frame that it is told.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("it did not take a message within 10 s")]
    Slow,
    #[error("it broke the protocol: {0}")]
    Protocol(String),
    #[error("{0}")]
    TooMany(#[from] TooMany),
}

/// A refusal in the words of the operator.
pub(crate) fn refusal(request: u32, reason: &str, message: impl Into<String>) -> Refusal {
    let mut message: String = message.into();
    if message.len() > 2048 {
        let cut = message.floor_char_boundary(2048);
        message.truncate(cut);
    }
    Refusal { request, reason: reason.to_owned(), message }
}

/// Sends frames, and gives up on a sidecar that does not take them.
pub(crate) struct Out(FrameWriter);

impl Out {
    pub(crate) async fn send(&mut self, message: impl Into<ToSidecar>) -> Result<(), SessionError> {
        let message = message.into();
        tokio::time::timeout(PATIENCE, self.0.send(&message))
            .await
            .map_err(|_| SessionError::Slow)?
            .map_err(Into::into)
    }

    /// Says that nothing follows, and waits a little so that what was said arrives.
    async fn finish(mut self, connection: &Connection) {
        let _ = self.0.finish();
        let _ = tokio::time::timeout(Duration::from_secs(1), connection.closed()).await;
    }
}

/// Serves one connection until it ends.
pub(crate) async fn serve(hub: Hub, connection: Connection, identity: Option<SpiffeId>) {
    let name =
        identity.as_ref().map_or_else(|| "a sidecar without a certificate".to_owned(), ToString::to_string);
    // strangers were counted with those of the other protocols
    let _open = match identity.clone().map(|identity| hub.open_session(identity)).transpose() {
        Ok(open) => open,
        Err(full) => return refuse(&connection, &name, &full),
    };
    // a stranger stays at a stranger's rate: a handshake without a certificate proves nothing
    let _admitted = identity.is_some().then(|| hub.forwarder.admit_control(connection.remote_address()));
    match talk(&hub, &connection, identity).await {
        Ok(()) => close(&connection, CloseCode::Done, ""),
        Err(SessionError::Protocol(message)) => {
            tracing::warn!(
                sidecar = name,
                reason = "protocol-violation",
                "control connection closed: {message}"
            );
            close(&connection, CloseCode::ProtocolViolation, &message);
        }
        Err(SessionError::TooMany(full)) => refuse(&connection, &name, &full),
        Err(error) => {
            tracing::debug!(sidecar = name, cause = %error, "control connection ended");
            close(&connection, CloseCode::Done, "");
        }
    }
}

/// Closes a connection that there is no room for.
fn refuse(connection: &Connection, sidecar: &str, full: &TooMany) {
    let code = CloseCode::Overloaded;
    tracing::warn!(sidecar, reason = code.reason(), "control connection refused: {full}");
    close(connection, code, &full.to_string());
}

async fn talk(hub: &Hub, connection: &Connection, identity: Option<SpiffeId>) -> Result<(), SessionError> {
    let opened = tokio::time::timeout(PATIENCE, connection.accept_bi()).await;
    let Ok(Ok((send, receive))) = opened else { return Ok(()) };
    let (mut out, mut input) = (Out(FrameWriter::new(send)), FrameReader::new(receive));
    let first =
        tokio::time::timeout(PATIENCE, input.next::<ToGateway>()).await.map_err(|_| SessionError::Slow)??;
    let Some(ToGateway::Hello(hello)) = first else {
        return Err(SessionError::Protocol("the first frame is not a hello".into()));
    };
    out.send(Welcome {
        version: VersionInfo::current(),
        cluster: hub.cluster(),
        node: hub.node.id(),
        unix_time: causeway_runtime::clock::unix_now(),
    })
    .await?;
    let mut metered = Metered { input, meter: hub.metrics.meter("ctl") };
    let ended = answer(hub, connection, identity, hello, out, &mut metered).await;
    metered.note();
    ended
}

/// What a session reads, and its count.
struct Metered {
    input: FrameReader,
    meter: Meter,
}

impl Metered {
    /// Counts what was skipped.
    fn note(&mut self) {
        self.meter.skipped(self.input.skipped());
    }
}

/// Does what the sidecar wants, after the hellos.
async fn answer(
    hub: &Hub,
    connection: &Connection,
    identity: Option<SpiffeId>,
    hello: Hello,
    mut out: Out,
    metered: &mut Metered,
) -> Result<(), SessionError> {
    match (identity, hello.workload) {
        (None, _) => {
            issue::join(hub, connection, &mut out, &mut metered.input).await?;
            out.finish(connection).await;
            Ok(())
        }
        (Some(identity), None) => {
            issue::attach(hub, connection, &identity, &mut out, metered).await?;
            out.finish(connection).await;
            Ok(())
        }
        (Some(identity), Some(workload)) if !hub.is_of(&identity, workload) => {
            let message =
                format!("workload id {workload} was not given to {identity}: attach for one of its own");
            out.send(refusal(0, "workload-id-foreign", message)).await?;
            out.finish(connection).await;
            Ok(())
        }
        (Some(identity), Some(workload)) => {
            let release: String = hello.version.release.chars().take(64).collect();
            let standing = peer_chain(connection).and_then(|chain| hub.node.bundles().standing(&chain).ok());
            let svid_keys = standing.iter().map(|standing| *standing.key()).collect();
            let sidecar = session::Sidecar { identity, workload, release, svid_keys };
            session::run(hub, connection, (sidecar, standing), out, metered).await
        }
    }
}

#[cfg(test)]
mod tests;
