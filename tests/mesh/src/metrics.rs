//! Metrics as a process shows them.

use crate::get;
use std::net::SocketAddr;

/// What `/metrics` said.
#[derive(Clone, Debug)]
pub struct Scrape(String);

impl Scrape {
    /// Asks the telemetry server at `addr`.
    #[track_caller]
    pub fn of(addr: SocketAddr) -> Self {
        let answer = get(addr, "/metrics").unwrap_or_else(|error| panic!("no metrics at {addr}: {error}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        Self(answer.text())
    }

    /// The sum of the series called `name` whose labels contain `label`, such as `reason="bad-probe"`; an empty one takes all.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        let values = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            let whole = labels.is_empty() || labels.starts_with('{');
            (whole && labels.contains(label)).then(|| value.parse::<f64>().ok()).flatten()
        });
        values.sum()
    }

    /// How many packets a gateway has dropped for `reason`; an empty one takes all.
    pub fn dropped(&self, reason: &str) -> f64 {
        let label = if reason.is_empty() { String::new() } else { format!("reason=\"{reason}\"") };
        self.sum("causeway_forwarder_packets_dropped_total", &label)
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_label() {
        let text =
            "# HELP x a\nx_total{reason=\"a\"} 2\nx_total{reason=\"b\"} 3\nx_total_more 9\ny 4.5\n# EOF\n";
        let scrape = Scrape(text.to_owned());
        assert_eq!((scrape.sum("x_total", ""), scrape.sum("x_total", "reason=\"b\"")), (5.0, 3.0));
        assert_eq!((scrape.sum("y", ""), scrape.sum("z", "")), (4.5, 0.0));
    }
}
