//! The lines of the access log on their way to standard error: one for each connection, so that a reader which stalls would hold up
//! the threads that carry traffic.
//!
//! They wait in a queue that a thread of their own empties; when it is full they are dropped and counted. All other lines are few
//! and are written at once, so that the last words of a process that fails are not lost.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// The target of the lines that are queued.
const QUEUED: &str = "access";
/// How many lines wait at most: at about 500 bytes each, 2 MiB.
const MOST: usize = 4096;

/// Where lines go.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    /// `None` if the thread could not be started: then lines are written at once.
    queue: Option<SyncSender<Vec<u8>>>,
    dropped: Arc<AtomicU64>,
}

/// One line.
pub(super) struct Line<'a> {
    /// Where it goes when it is dropped; `None` writes it at once.
    to: Option<&'a Lines>,
    text: Vec<u8>,
}

impl Lines {
    /// To standard error, with a thread for those that are queued. The thread ends with the process.
    pub(super) fn start() -> Self {
        let (lines, queued) = Self::new(MOST);
        let dropped = Arc::clone(&lines.dropped);
        let thread = std::thread::Builder::new().name("access-log".to_owned());
        match thread.spawn(move || write_out(&queued, &dropped, io::stderr())) {
            Ok(_) => lines,
            Err(_) => Self { queue: None, ..lines },
        }
    }

    fn new(most: usize) -> (Self, Receiver<Vec<u8>>) {
        let (queue, queued) = sync_channel(most);
        (Self { queue: Some(queue), dropped: Arc::default() }, queued)
    }

    fn line(&self, target: &str) -> Line<'_> {
        let to = (target == QUEUED && self.queue.is_some()).then_some(self);
        Line { to, text: Vec::new() }
    }
}

/// Writes what is queued until nobody is left who may queue.
fn write_out(queued: &Receiver<Vec<u8>>, dropped: &AtomicU64, mut out: impl Write) {
    for line in queued {
        // there is nowhere to say that the log cannot be written
        let _ = out.write_all(&line);
        let lost = dropped.swap(0, Relaxed);
        if lost > 0 {
            tracing::warn!(
                lost,
                "lines of the access log were dropped, because standard error is read too slowly"
            );
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        self.line("")
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        self.line(metadata.target())
    }
}

impl Write for Line<'_> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.to.is_none() {
            return io::stderr().write(part);
        }
        self.text.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let Some(Lines { queue: Some(queue), dropped }) = self.to else { return };
        if queue.try_send(std::mem::take(&mut self.text)).is_err() {
            dropped.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_stalls_costs_lines_and_no_time() {
        let (lines, queued) = Lines::new(2);
        for number in 0..5 {
            write!(lines.line(QUEUED), "line {number};").unwrap();
        }
        let dropped = Arc::clone(&lines.dropped);
        assert_eq!(dropped.load(Relaxed), 3);
        drop(lines);
        let mut out = Vec::new();
        write_out(&queued, &dropped, &mut out);
        assert_eq!(out, b"line 0;line 1;");
        assert_eq!(dropped.load(Relaxed), 0);
    }

    #[test]
    fn other_lines_do_not_wait() {
        let (lines, _queued) = Lines::new(2);
        assert!(lines.line("causeway_sidecar").to.is_none());
        assert!(lines.line(QUEUED).to.is_some());
    }
}
