//! Whose turn it is to do the work, where one process hands its sockets over to the next.

use tokio_util::sync::CancellationToken;

/// Whether this process does the work. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turn {
    /// Nobody does it besides.
    mine: CancellationToken,
    /// Another one does it now.
    over: CancellationToken,
}

impl Turn {
    /// Of a process that is the only one, or not yet.
    pub(crate) fn new(alone: bool) -> Self {
        let turn = Self::default();
        if alone {
            turn.begin();
        }
        turn
    }

    /// From now on it is this process'.
    pub(crate) fn begin(&self) {
        self.mine.cancel();
    }

    /// From now on it is another one's.
    pub(crate) fn give_up(&self) {
        self.over.cancel();
    }

    /// Resolves when nobody else accepts from the sockets any more: at once, unless they are taken over. `false` if `end` came first.
    pub(crate) async fn mine(&self, end: &CancellationToken) -> bool {
        tokio::select! {
            () = self.mine.cancelled() => true,
            () = end.cancelled() => false,
        }
    }

    /// Resolves when another process has taken over.
    pub(crate) async fn over(&self) {
        self.over.cancelled().await;
    }
}
