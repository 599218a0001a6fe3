//! What a tour saw: told line by line as it happens, and summed up at the end.

use super::load::Outcome;
use super::stall::{Stall, median};
use crate::output;
use anyhow::Result;
use std::time::{Duration, Instant};

/// What a kill may cost at most.
pub(super) const STALL_LIMIT: Duration = Duration::from_millis(200);

/// The tally of a tour.
#[derive(Debug)]
pub(super) struct Report {
    /// Where lines go.
    say: fn(&str) -> Result<()>,
    began: Instant,
    steps: usize,
    failures: Vec<String>,
    requests: u64,
    failed_requests: u64,
    downloads: usize,
    broken_downloads: usize,
    streams: usize,
    broken_streams: usize,
    stalls: Vec<Stall>,
}

impl Report {
    pub(super) fn new(say: fn(&str) -> Result<()>) -> Self {
        Self {
            say,
            began: Instant::now(),
            steps: 0,
            failures: Vec::new(),
            requests: 0,
            failed_requests: 0,
            downloads: 0,
            broken_downloads: 0,
            streams: 0,
            broken_streams: 0,
            stalls: Vec::new(),
        }
    }

    /// Says what is done next.
    pub(super) fn step(&mut self, title: &str) -> Result<()> {
        self.steps += 1;
        (self.say)(&format!("\n{:>2}. {title}  [{:.1} s]", self.steps, self.began.elapsed().as_secs_f64()))
    }

    /// Says what was seen.
    pub(super) fn saw(&self, seen: &str) -> Result<()> {
        (self.say)(&indented("    ", seen))
    }

    /// Says what is not as it should be.
    pub(super) fn failed(&mut self, failure: impl Into<String>) -> Result<()> {
        let failure = failure.into();
        (self.say)(&indented("    FAILED: ", &failure))?;
        self.failures.push(failure);
        Ok(())
    }

    /// Counts and tells what came of a load.
    pub(super) fn outcome(&mut self, outcome: &Outcome) -> Result<()> {
        let tally = &outcome.tally;
        let (requests, failed) = (tally.requests(), tally.failures());
        self.requests += requests;
        self.failed_requests += failed;
        self.saw(&format!("{requests} requests, {failed} failed, the slowest took {}", ms(tally.slowest())))?;
        if failed > 0 {
            self.failed(format!("{failed} of {requests} requests failed: {}", tally.errors()))?;
        }
        self.downloads += 1;
        if let Err(error) = &outcome.download {
            self.broken_downloads += 1;
            self.failed(format!("the download broke: {error:#}"))?;
        } else {
            self.saw("the download is whole, and every byte of it is right")?;
        }
        self.streams += outcome.ticks.len();
        for error in outcome.ticks.iter().filter_map(|ticks| ticks.as_ref().err()) {
            self.broken_streams += 1;
            self.failed(format!("a stream broke: {error:#}"))?;
        }
        Ok(())
    }

    /// Counts and tells what a kill did.
    pub(super) fn stall(&mut self, stall: Stall) -> Result<()> {
        self.saw(&format!(
            "SIGKILL of {}: stall {} (ticks {}, download {}; in the calm second before {})",
            stall.killed,
            ms(stall.worst()),
            ms(stall.ticks),
            ms(stall.download),
            ms(stall.calm)
        ))?;
        if stall.worst() >= STALL_LIMIT {
            self.failed(format!("the stall of {} is not under {}", ms(stall.worst()), ms(STALL_LIMIT)))?;
        }
        self.stalls.push(stall);
        Ok(())
    }

    /// Whether all is as it should be.
    pub(super) fn is_fine(&self) -> bool {
        self.failures.is_empty()
    }

    /// The summary.
    pub(super) fn summary(&self) -> String {
        let mut lines = vec![
            format!("{} failed requests (of {})", self.failed_requests, self.requests),
            format!("{} broken downloads (of {})", self.broken_downloads, self.downloads),
            format!("{} broken streams (of {})", self.broken_streams, self.streams),
        ];
        lines.extend(
            self.stalls
                .iter()
                .map(|stall| format!("stall {} at the kill of {}", ms(stall.worst()), stall.killed)),
        );
        if let (Some(median), Some(worst)) =
            (median(&self.stalls), self.stalls.iter().map(Stall::worst).max())
        {
            lines.push(format!(
                "stall: median {}, longest {}, limit {}",
                ms(median),
                ms(worst),
                ms(STALL_LIMIT)
            ));
        }
        lines.extend(self.failures.iter().map(|failure| indented("FAILED: ", failure)));
        let verdict = if self.is_fine() { "everything is fine" } else { "NOT everything is fine" };
        lines.push(format!("{verdict}, {:.1} s", self.began.elapsed().as_secs_f64()));
        lines.join("\n")
    }
}

/// A duration in milliseconds.
pub(super) fn ms(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

/// `text` after `label`, with further lines below its first.
fn indented(label: &str, text: &str) -> String {
    let indent = format!("\n{:width$}", "", width = label.len());
    format!("{label}{}", output::printable(text.trim_end()).replace('\n', &indent))
}

#[cfg(test)]
mod tests {
    use super::super::load::Tally;
    use super::super::stall::Reads;
    use super::*;
    use anyhow::anyhow;

    fn stall(killed: &str, ticks: u64) -> Stall {
        let ms = Duration::from_millis;
        Stall { killed: killed.into(), ticks: ms(ticks), download: ms(30), calm: ms(5) }
    }

    #[test]
    fn a_fine_tour_is_told_in_numbers() {
        let mut report = Report::new(|_| Ok(()));
        let outcome = Outcome {
            tally: Tally::default().into(),
            ticks: vec![Ok(Reads::default())],
            download: Ok(Reads::default()),
        };
        report.outcome(&outcome).unwrap();
        for (killed, ticks) in [("iad-1", 80), ("phx-1", 20), ("iad-2", 120)] {
            report.stall(stall(killed, ticks)).unwrap();
        }
        let summary = report.summary();
        for line in [
            "0 failed requests (of 0)",
            "0 broken downloads (of 1)",
            "stall 30 ms at the kill of phx-1",
            "stall: median 80 ms, longest 120 ms, limit 200 ms",
            "everything is fine, ",
        ] {
            assert!(summary.contains(line), "{line} is not in\n{summary}");
        }
        assert!(report.is_fine());
    }

    #[test]
    fn a_long_stall_and_a_broken_stream_are_failures() {
        let mut report = Report::new(|_| Ok(()));
        report.stall(stall("iad-1", 200)).unwrap();
        assert!(!report.is_fine());
        let outcome = Outcome {
            tally: Tally::default().into(),
            ticks: vec![Err(anyhow!("reset"))],
            download: Err(anyhow!("short")),
        };
        report.outcome(&outcome).unwrap();
        let summary = report.summary();
        for line in [
            "1 broken downloads (of 1)",
            "1 broken streams (of 1)",
            "FAILED: the download broke: short",
            "NOT everything",
        ] {
            assert!(summary.contains(line), "{line} is not in\n{summary}");
        }
    }
}
