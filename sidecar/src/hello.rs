//! The hello that makes a connection one: quinn says "connected" before the other side has agreed to anything.

use crate::direct::MAX_DIRECT;
use crate::membership::Membership;
use crate::relay::read_frame;
use causeway_model::TrustDomain;
use causeway_transport::{
    Connection, ConnectionError, FrameError, RecvStream, SendStream, TransportSettings, close, close_reason,
    close_reason_text,
};
use causeway_wire::data::{DataHello, DataMessage, MAX_STREAM_HEADER};
use causeway_wire::{CloseCode, Message};
use std::time::Duration;
use tokio::time::timeout;

/// The least time that a client waits for the server's hello.
const CLIENT_PATIENCE: Duration = Duration::from_millis(500);
/// The least time that a server waits for the client's hello, which comes with the handshake's last flight.
const SERVER_PATIENCE: Duration = Duration::from_secs(1);
/// The longest release that a peer may name, in bytes.
const MAX_RELEASE: usize = 64;

/// Why the hellos were not exchanged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelloError {
    /// It did not come in time.
    #[error("the peer's hello did not come within {0:?}")]
    Timeout(Duration),
    /// The peer broke the protocol.
    #[error("the peer's hello cannot be used: {0}")]
    Malformed(String),
    /// The connection ended first.
    #[error("{}", close_reason_text(.0))]
    Connection(#[from] ConnectionError),
}

impl HelloError {
    /// The stable word for logs and metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Timeout(_) => CloseCode::HelloTimeout.reason(),
            Self::Malformed(_) => CloseCode::ProtocolViolation.reason(),
            Self::Connection(error) => close_reason(error),
        }
    }

    fn code(&self) -> Option<CloseCode> {
        match self {
            Self::Timeout(_) => Some(CloseCode::HelloTimeout),
            Self::Malformed(_) => Some(CloseCode::ProtocolViolation),
            Self::Connection(_) => None,
        }
    }
}

impl From<FrameError> for HelloError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Connection(error) => Self::Connection(error),
            other => Self::Malformed(other.to_string()),
        }
    }
}

/// Says `own` as the client and returns what the server says. On an error the connection is closed.
pub(crate) async fn initiate(connection: &Connection, own: DataHello) -> Result<DataHello, HelloError> {
    let exchange = async {
        let (mut send, mut recv) = connection.open_bi().await?;
        say(&mut send, own).await?;
        hear(&mut recv).await
    };
    bounded(connection, CLIENT_PATIENCE, exchange).await
}

/// Hears the client, checks that it may be of the cluster that it names, gives it the room of `transport`, and answers as `own`.
/// On an error the connection is closed.
pub(crate) async fn answer(
    connection: &Connection,
    peer: &TrustDomain,
    own: &Membership,
    transport: &TransportSettings,
) -> Result<DataHello, HelloError> {
    let exchange = async {
        let (mut send, mut recv) = connection.accept_bi().await?;
        let theirs = hear(&mut recv).await?;
        if !plausible(&theirs, peer, own) {
            return Err(HelloError::Malformed(format!("cluster {} is not that of {peer}", theirs.cluster)));
        }
        // before the answer, whose packet then says it too: were it in a packet of its own that is lost, the client had its
        // answer and could open no stream until that packet is repeated
        transport.let_in(connection);
        say(&mut send, own.hello(theirs.cluster)).await?;
        Ok(theirs)
    };
    bounded(connection, SERVER_PATIENCE, exchange).await
}

async fn bounded(
    connection: &Connection,
    patience: Duration,
    exchange: impl Future<Output = Result<DataHello, HelloError>>,
) -> Result<DataHello, HelloError> {
    let patience = patience.max(connection.rtt() * 4);
    let result = timeout(patience, exchange).await.unwrap_or(Err(HelloError::Timeout(patience)));
    if let Err(error) = &result
        && let Some(code) = error.code()
    {
        close(connection, code, &error.to_string());
    }
    result
}

async fn say(send: &mut SendStream, own: DataHello) -> Result<(), HelloError> {
    let frame =
        DataMessage::from(own).to_frame().map_err(|error| HelloError::Malformed(error.to_string()))?;
    send.write_chunk(frame).await.map_err(FrameError::from)?;
    // it fails only if the peer stopped reading, which the connection or its answer says
    let _ = send.finish();
    Ok(())
}

async fn hear(recv: &mut RecvStream) -> Result<DataHello, HelloError> {
    match read_frame(recv, MAX_STREAM_HEADER).await? {
        DataMessage::Hello(hello) if hello.direct.len() > MAX_DIRECT => {
            Err(HelloError::Malformed(format!("{} direct addresses", hello.direct.len())))
        }
        DataMessage::Hello(hello) if hello.version.release.len() > MAX_RELEASE => {
            Err(HelloError::Malformed(format!("a release of {} bytes", hello.version.release.len())))
        }
        DataMessage::Hello(hello) => Ok(hello),
        other => Err(HelloError::Malformed(format!("message {} instead", other.kind()))),
    }
}

/// Whether the cluster that a peer names can be that of its trust domain: the own one has the own cluster's id, and no other has.
pub(crate) fn plausible(hello: &DataHello, peer: &TrustDomain, own: &Membership) -> bool {
    (*peer == own.trust_domain) == (hello.cluster == own.cluster)
}
