//! Succession: this process takes over from the one before, and gives way to the next.

use super::sockets::Sockets;
use crate::turn::Turn;
use causeway_client::Control;
use causeway_runtime::{Drain, HandoverListener, Offers, Predecessor, Readiness};
use std::path::PathBuf;

/// What it takes to have the turn, and to give it up.
pub(super) struct Succession {
    predecessor: Option<Predecessor>,
    offers: Option<Offers>,
    dir: Option<PathBuf>,
    turn: Turn,
}

impl Succession {
    /// Of the sockets that were taken or bound for the state directory `dir`.
    pub(super) fn new(sockets: Sockets, dir: Option<PathBuf>, turn: Turn) -> Self {
        let (predecessor, offers) = sockets.into_parts();
        Self { predecessor, offers, dir, turn }
    }

    /// Takes the turn once this process is ready, and offers it until the drain begins.
    pub(super) async fn run(mut self, readiness: Readiness, control: Control, drain: Drain) {
        tokio::select! {
            () = readiness.wait() => {}
            // the process before goes on as if nothing had been
            () = drain.started() => return self.close(),
        }
        if let Some(process) = self.predecessor.take() {
            process.confirm().await;
        }
        self.turn.begin();
        let (Some(offers), Some(dir)) = (&self.offers, &self.dir) else { return };
        if let Err(error) = offers.lock().sign() {
            tracing::warn!(%error, reason = error.reason(), "the lock of the state directory names another process");
        }
        let listener = match HandoverListener::bind(dir) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(%error, reason = error.reason(), "the next process will not be able to take over from this one");
                return self.close();
            }
        };
        tokio::select! {
            () = drain.started() => {
                self.close();
                listener.remove();
            }
            successor = listener.hand_over(offers) => {
                tracing::info!(pid = successor.pid, "another process has taken over; this one drains and ends");
                control.leave_state();
                self.turn.give_up();
            }
        }
    }

    /// What waits in a socket from which nobody accepts must be refused.
    fn close(&self) {
        self.offers.iter().for_each(Offers::clear);
    }
}
