//! Heartbeats and reports of one connection.
//!
//! Heartbeats go as datagrams where both ends take them: what the path loses of those is seen to be lost, and they wait for nothing.
//! Elsewhere they go over the stream as any message.

use super::limits::Limits;
use crate::links::health::Pulse;
use causeway_transport::{Connection, SendDatagramError};
use causeway_wire::link::{Heartbeat, LinkMessage, MAX_HEARTBEAT_FRAME};
use causeway_wire::{FrameDecoder, Message};
use std::time::Instant;
use tokio::sync::watch;

/// Sends what this gateway knows of who hears whom, and takes heartbeats that come as datagrams.
pub(super) struct Heart<'c> {
    connection: &'c Connection,
    pulse: Pulse,
    /// The heartbeat that goes over the stream.
    waits: Option<Heartbeat>,
}

impl<'c> Heart<'c> {
    pub(super) fn new(connection: &'c Connection, pulse: Pulse) -> Self {
        Self { connection, pulse, waits: None }
    }

    /// Waits until there is something to send.
    pub(super) async fn changed(&mut self) {
        tokio::select! {
            () = changed(&mut self.pulse.heartbeats) => {}
            () = changed(&mut self.pulse.reports) => {}
        }
    }

    /// Sends what goes without the stream. What waits for the stream since the last time is out of date.
    pub(super) fn beat(&mut self) {
        if !self.pulse.heartbeats.has_changed().unwrap_or(false) {
            return;
        }
        let Some(heartbeat) = *self.pulse.heartbeats.borrow_and_update() else { return };
        self.waits = if self.sent(heartbeat) { None } else { Some(heartbeat) };
    }

    /// Whether `heartbeat` needs no stream.
    fn sent(&self, heartbeat: Heartbeat) -> bool {
        let Ok(frame) = LinkMessage::from(heartbeat).to_frame() else { return true };
        match self.connection.send_datagram(frame) {
            Ok(()) | Err(SendDatagramError::ConnectionLost(_)) => true,
            Err(
                SendDatagramError::UnsupportedByPeer
                | SendDatagramError::Disabled
                | SendDatagramError::TooLarge,
            ) => false,
        }
    }

    /// What is to be said on the stream.
    pub(super) fn next(&mut self) -> Option<LinkMessage> {
        if let Some(heartbeat) = self.waits.take() {
            return Some(heartbeat.into());
        }
        if !self.pulse.reports.has_changed().unwrap_or(false) {
            return None;
        }
        let reports = self.pulse.reports.borrow_and_update().clone();
        (!reports.reports.is_empty()).then(|| (*reports).clone().into())
    }
}

/// Waits until there is something new, and leaves it so.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    match receiver.changed().await {
        Ok(()) => receiver.mark_changed(),
        Err(_) => std::future::pending().await,
    }
}

/// The next heartbeat that comes as a datagram; never if the connection has none. Anything else in a datagram is passed over, and
/// charged all the same.
pub(super) async fn heard(connection: &Connection, limits: &mut Limits) -> Heartbeat {
    loop {
        let Ok(datagram) = connection.read_datagram().await else { return std::future::pending().await };
        if let Some(heartbeat) = decode(&datagram) {
            return heartbeat;
        }
        limits.charge_noise(Instant::now());
    }
}

fn decode(datagram: &[u8]) -> Option<Heartbeat> {
    if datagram.len() > MAX_HEARTBEAT_FRAME {
        return None;
    }
    let mut decoder = FrameDecoder::new();
    decoder.push(datagram);
    let frame = decoder.next_frame().ok()??;
    match LinkMessage::from_frame(&frame) {
        Ok(Some(LinkMessage::Heartbeat(heartbeat))) if decoder.is_empty() => Some(heartbeat),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_wire::link::Unlink;
    use proptest::prelude::*;

    fn heartbeat(seq: u64) -> Heartbeat {
        Heartbeat { seq, unix_ms: seq, heard: seq, received: seq, heard_ago_ms: u32::MAX, hearing: 255 }
    }

    #[test]
    fn a_datagram_holds_a_heartbeat_and_nothing_else() {
        let frame = LinkMessage::from(heartbeat(u64::MAX)).to_frame().unwrap();
        assert!(frame.len() <= MAX_HEARTBEAT_FRAME, "{}", frame.len());
        assert_eq!(decode(&frame), Some(heartbeat(u64::MAX)));
        assert_eq!(decode(&[&frame[..], &frame[..1]].concat()), None);
        assert_eq!(decode(&frame[..frame.len() - 1]), None);
        let short = LinkMessage::from(heartbeat(1)).to_frame().unwrap();
        assert_eq!(decode(&[&short[..], &short[..]].concat()), None);
        assert_eq!(decode(&LinkMessage::from(Unlink {}).to_frame().unwrap()), None);
    }

    #[tokio::test]
    async fn what_is_waited_for_is_still_new_after_the_wait() {
        let (sender, mut receiver) = watch::channel(1);
        sender.send(2).unwrap();
        changed(&mut receiver).await;
        assert!(receiver.has_changed().unwrap());
        assert_eq!(*receiver.borrow_and_update(), 2);
        assert!(!receiver.has_changed().unwrap());
    }

    proptest! {
        #[test]
        fn no_datagram_does_harm(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = decode(&bytes);
        }
    }
}
