//! The streams of the load: what they receive is checked, and when they receive it is noted.

use super::super::content;
use super::super::http::{Connection, Head};
use super::super::stall::Reads;
use super::{DOWNLOAD, RATE};
use anyhow::{Context, Result, bail};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// What a download reads at once, in bytes.
const BUFFER: usize = 256 * 1024;
/// How many ticks are asked for: more than a load lasts.
const TICKS: u64 = 10_000_000;
/// A stream that gives nothing for so long is broken.
const SILENCE: Duration = Duration::from_secs(10);

/// Downloads and checks every byte.
pub(super) async fn download(from: SocketAddr, began: Instant) -> Result<Reads> {
    let mut connection = Connection::open_with(from, BUFFER).await?;
    expect_ok(timeout(SILENCE, connection.begin(&format!("/bytes/{DOWNLOAD}?rate={RATE}"))).await??)?;
    let (mut reads, mut received) = (Reads::default(), 0);
    while received < DOWNLOAD {
        let piece = timeout(SILENCE, connection.piece(DOWNLOAD - received)).await;
        let piece = piece.with_context(|| format!("silent for {SILENCE:?} after {received} bytes"))?;
        let piece = piece.with_context(|| format!("broke off after {received} bytes"))?;
        if piece.is_empty() {
            bail!("ended after {received} of {DOWNLOAD} bytes");
        }
        if let Some(wrong) = content::first_wrong(received, piece) {
            bail!("byte {wrong} is wrong");
        }
        let len = piece.len();
        connection.used(len);
        received += len as u64;
        reads.note(began.elapsed());
    }
    Ok(reads)
}

/// Receives ticks until told to stop, and checks that none is missing.
pub(super) async fn ticks(from: SocketAddr, began: Instant, stop: CancellationToken) -> Result<Reads> {
    let mut connection = Connection::open(from).await?;
    expect_ok(timeout(SILENCE, connection.begin(&format!("/ticks/{TICKS}"))).await??)?;
    let (mut reads, mut checker) = (Reads::default(), Ticks::default());
    loop {
        let piece = tokio::select! {
            () = stop.cancelled() => return Ok(reads),
            piece = timeout(SILENCE, connection.piece(u64::MAX)) => piece,
        };
        let piece = piece.with_context(|| format!("silent for {SILENCE:?} after {} ticks", checker.count))?;
        let piece = piece.with_context(|| format!("broke off after {} ticks", checker.count))?;
        if piece.is_empty() {
            bail!("ended after {} ticks", checker.count);
        }
        checker.take(piece)?;
        let len = piece.len();
        connection.used(len);
        reads.note(began.elapsed());
    }
}

fn expect_ok(head: Head) -> Result<()> {
    if head.status == 200 { Ok(()) } else { bail!("HTTP {}", head.status) }
}

/// Puts ticks together, however they are cut.
#[derive(Debug, Default)]
struct Ticks {
    count: u64,
    partial: Vec<u8>,
}

impl Ticks {
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        for byte in bytes {
            self.partial.push(*byte);
            let Ok(tick) = <[u8; 8]>::try_from(self.partial.as_slice()) else { continue };
            let tick = u64::from_be_bytes(tick);
            if tick != self.count {
                bail!("tick {tick} came where {} was due", self.count);
            }
            self.count += 1;
            self.partial.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_checked_however_they_are_cut() {
        let bytes: Vec<u8> = (0u64..20).flat_map(u64::to_be_bytes).collect();
        for cut in 1..30 {
            let mut ticks = Ticks::default();
            for piece in bytes.chunks(cut) {
                ticks.take(piece).unwrap();
            }
            assert_eq!(ticks.count, 20, "{cut}");
        }
        let mut ticks = Ticks::default();
        let error = ticks.take(&[bytes[..16].to_vec(), bytes[24..].to_vec()].concat()).unwrap_err();
        assert_eq!(error.to_string(), "tick 3 came where 2 was due");
    }
}
