//! How long a stream stood still: a pure computation over the moments at which something of it was read.

use std::time::Duration;

/// For how long after a kill a gap is counted as its doing.
pub(super) const WINDOW: Duration = Duration::from_secs(2);

/// The moments at which a stream gave something, since the load began, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reads {
    moments: Vec<Duration>,
}

impl Reads {
    /// Notes that something was read.
    pub(super) fn note(&mut self, at: Duration) {
        self.moments.push(at);
    }

    /// The longest time without anything that touches `from..to`, as far as it lies before `to`; nothing if nothing was read
    /// before `to`.
    pub(super) fn longest_gap(&self, from: Duration, to: Duration) -> Option<Duration> {
        let ends = self.moments.iter().copied().skip(1).chain([to]);
        let gaps = self.moments.iter().zip(ends).filter(|(start, end)| **start <= to && *end >= from);
        gaps.map(|(start, end)| end.min(to).saturating_sub(*start)).max()
    }
}

/// What a kill did to the streams that were running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stall {
    /// What was killed.
    pub(super) killed: String,
    /// The longest gap of a stream that sends something every few milliseconds.
    pub(super) ticks: Duration,
    /// The longest gap of the download.
    pub(super) download: Duration,
    /// The longest gap of either in the second before, when nothing was wrong.
    pub(super) calm: Duration,
}

impl Stall {
    /// What a kill at `at` did.
    pub(super) fn of(killed: String, at: Duration, ticks: &[Reads], download: &Reads) -> Self {
        let worst = |streams: &[&Reads], from, to| {
            streams.iter().filter_map(|reads| reads.longest_gap(from, to)).max().unwrap_or_default()
        };
        let ticking: Vec<_> = ticks.iter().collect();
        let all: Vec<_> = ticks.iter().chain([download]).collect();
        Self {
            killed,
            ticks: worst(&ticking, at, at + WINDOW),
            download: worst(&[download], at, at + WINDOW),
            calm: worst(&all, at.saturating_sub(Duration::from_secs(1)), at.saturating_sub(TICK)),
        }
    }

    /// The stall: the longer of the two gaps.
    pub(super) fn worst(&self) -> Duration {
        self.ticks.max(self.download)
    }
}

/// How often a stream that measures gaps sends something.
pub(super) const TICK: Duration = Duration::from_millis(2);

/// The middle one; of an even number the upper.
pub(super) fn median(stalls: &[Stall]) -> Option<Duration> {
    let mut sorted: Vec<_> = stalls.iter().map(Stall::worst).collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn reads(moments: &[u64]) -> Reads {
        Reads { moments: moments.iter().map(|at| ms(*at)).collect() }
    }

    #[test]
    fn a_gap_counts_where_it_touches_the_window() {
        let reads = reads(&[0, 10, 200, 210, 300, 305]);
        for (from, to, gap) in
            [(5, 10, 10), (100, 110, 100), (150, 250, 190), (205, 220, 10), (205, 305, 90), (10, 305, 190)]
        {
            assert_eq!(reads.longest_gap(ms(from), ms(to)), Some(ms(gap)), "{from}..{to}");
        }
    }

    #[test]
    fn a_stream_that_says_nothing_more_stands_still_until_the_end() {
        assert_eq!(reads(&[0, 10]).longest_gap(ms(5), ms(1000)), Some(ms(990)));
        assert_eq!(reads(&[0, 10]).longest_gap(ms(500), ms(1000)), Some(ms(990)));
    }

    #[test]
    fn what_began_later_has_no_gap() {
        assert_eq!(reads(&[]).longest_gap(ms(0), ms(10)), None);
        assert_eq!(reads(&[20, 30]).longest_gap(ms(0), ms(10)), None);
        assert_eq!(reads(&[20, 30]).longest_gap(ms(0), ms(30)), Some(ms(10)));
    }

    #[test]
    fn a_kill_has_the_longest_gap_of_all_streams() {
        let at = ms(2000);
        let steady = |step: u64, hole: std::ops::Range<u64>| {
            reads(
                &(0..6000)
                    .step_by(usize::try_from(step).unwrap())
                    .filter(|at| !hole.contains(at))
                    .collect::<Vec<_>>(),
            )
        };
        let ticks = [steady(2, 1..2), steady(2, 2001..2090), steady(2, 5000..5900)];
        let stall = Stall::of("iad-1".into(), at, &ticks, &steady(20, 2010..2061));
        assert_eq!((stall.ticks, stall.download, stall.calm), (ms(90), ms(80), ms(20)));
        assert_eq!(stall.worst(), ms(90));
    }

    #[test]
    fn the_median_is_the_middle_one() {
        let stall = |worst| Stall { killed: String::new(), ticks: ms(worst), download: ms(1), calm: ms(0) };
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[stall(90), stall(10), stall(50)]), Some(ms(50)));
        assert_eq!(median(&[stall(10), stall(50)]), Some(ms(50)));
    }
}
