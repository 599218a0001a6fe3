//! Bounded channels with names and metrics: depth, messages sent, messages dropped because the channel was full.
//!
//! Owns the counting only; the channel is tokio's. Channels of one name share their counters.

use crate::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendError, TryRecvError, TrySendError};

/// The sending side.
#[derive(Debug)]
pub struct Sender<T> {
    inner: mpsc::Sender<T>,
    name: &'static str,
    sent: Counter,
    dropped: Counter,
    depth: Gauge,
}

/// The receiving side.
#[derive(Debug)]
pub struct Receiver<T> {
    inner: mpsc::Receiver<T>,
    depth: Gauge,
}

/// A channel that holds at most `capacity` messages (at least one).
pub fn channel<T>(name: &'static str, capacity: usize, metrics: &Metrics) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    let (families, label) = (metrics.channels(), [("channel", name)]);
    let depth = families.depth.get_or_create_owned(&label);
    let sent = families.sent.get_or_create_owned(&label);
    let dropped = families.dropped.get_or_create_owned(&label);
    (Sender { inner: sender, name, sent, dropped, depth: depth.clone() }, Receiver { inner: receiver, depth })
}

impl<T> Sender<T> {
    /// The name that the channel was made with.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Sends when there is room.
    ///
    /// # Errors
    /// The receiver is gone; the message comes back.
    pub async fn send(&self, message: T) -> Result<(), SendError<T>> {
        match self.inner.reserve().await {
            Ok(permit) => {
                // counted first, or the receiver might take it off before
                self.count();
                permit.send(message);
                Ok(())
            }
            Err(_) => Err(SendError(message)),
        }
    }

    /// Sends if there is room; if not, the message counts as dropped.
    ///
    /// # Errors
    /// The channel is full or the receiver is gone; the message comes back.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        match self.inner.try_reserve() {
            Ok(permit) => {
                self.count();
                permit.send(message);
                Ok(())
            }
            Err(TrySendError::Full(())) => {
                self.dropped.inc();
                Err(TrySendError::Full(message))
            }
            Err(TrySendError::Closed(())) => Err(TrySendError::Closed(message)),
        }
    }

    /// Resolves when the receiver is gone.
    pub async fn closed(&self) {
        self.inner.closed().await;
    }

    /// Whether the receiver is gone.
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    fn count(&self) {
        self.sent.inc();
        self.depth.inc();
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            name: self.name,
            sent: self.sent.clone(),
            dropped: self.dropped.clone(),
            depth: self.depth.clone(),
        }
    }
}

impl<T> Receiver<T> {
    /// The next message, or `None` once every sender is gone and all is read.
    pub async fn recv(&mut self) -> Option<T> {
        let message = self.inner.recv().await?;
        self.depth.dec();
        Some(message)
    }

    /// Adds up to `limit` messages to `buffer`, waiting for the first, and returns how many; 0 once every sender is gone
    /// and all is read.
    pub async fn recv_many(&mut self, buffer: &mut Vec<T>, limit: usize) -> usize {
        let count = self.inner.recv_many(buffer, limit).await;
        self.depth.dec_by(i64::try_from(count).unwrap_or(i64::MAX));
        count
    }

    /// The next message if there is one now.
    ///
    /// # Errors
    /// There is none now, or there never will be.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let message = self.inner.try_recv()?;
        self.depth.dec();
        Ok(message)
    }

    /// Lets no more messages in; those that wait can still be read.
    pub fn close(&mut self) {
        self.inner.close();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.close();
        while self.try_recv().is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn shows(metrics: &Metrics, name: &str, value: u64) {
        let (text, line) =
            (metrics.encode(), format!("causeway_channel_{name}{{channel=\"test\"}} {value}\n"));
        assert!(text.contains(&line), "no {line} in {text}");
    }

    #[tokio::test]
    async fn messages_are_counted() {
        let metrics = Metrics::new();
        let (sender, mut receiver) = channel("test", 2, &metrics);
        sender.send(1).await.unwrap();
        sender.try_send(2).unwrap();
        assert!(matches!(sender.clone().try_send(3), Err(TrySendError::Full(3))));
        shows(&metrics, "depth", 2);
        shows(&metrics, "sent_total", 2);
        shows(&metrics, "dropped_total", 1);
        assert_eq!(receiver.recv().await, Some(1));
        shows(&metrics, "depth", 1);
        let mut rest = Vec::new();
        assert_eq!(receiver.recv_many(&mut rest, 10).await, 1);
        assert_eq!(rest, [2]);
        drop(sender);
        assert_eq!(receiver.recv().await, None);
        shows(&metrics, "depth", 0);
    }

    #[tokio::test]
    async fn messages_that_nobody_read_leave_with_their_receiver() {
        let metrics = Metrics::new();
        let (sender, receiver) = channel("test", 4, &metrics);
        sender.try_send(1).unwrap();
        sender.try_send(2).unwrap();
        drop(receiver);
        shows(&metrics, "depth", 0);
        assert!(sender.is_closed());
        sender.closed().await;
        assert!(matches!(sender.try_send(3), Err(TrySendError::Closed(3))));
        assert_eq!(sender.send(4).await.unwrap_err().0, 4);
        shows(&metrics, "dropped_total", 0);
    }
}
