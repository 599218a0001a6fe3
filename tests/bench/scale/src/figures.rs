//! What was measured, as a table and as a file.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    scenario: String,
    what: String,
    value: f64,
    unit: String,
    /// The goal: it is to be less.
    below: Option<f64>,
}

impl Figure {
    fn is_missed(&self) -> bool {
        self.below.is_some_and(|below| self.value >= below)
    }

    /// With as many digits as say something.
    fn shown(value: f64) -> String {
        let digits = match value.abs() {
            0.0 => 0,
            small if small < 1.0 => 3,
            small if small < 10.0 => 2,
            small if small < 100.0 => 1,
            _ => 0,
        };
        format!("{value:.digits$}")
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {} {}", self.scenario, self.what, Self::shown(self.value), self.unit)?;
        self.below.map_or(Ok(()), |below| write!(f, ", goal < {}", Self::shown(below)))
    }
}

/// The figures of one scenario, or of all.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    #[serde(skip)]
    scenario: String,
    all: Vec<Figure>,
}

impl Figures {
    /// None yet, of one scenario.
    pub(crate) fn of(scenario: &str) -> Self {
        Self { scenario: scenario.to_owned(), all: Vec::new() }
    }

    /// Notes a figure.
    pub(crate) fn note(&mut self, what: impl Into<String>, value: f64, unit: &str) {
        self.add(what.into(), value, unit, None);
    }

    /// Notes a figure that is to be below `goal`.
    pub(crate) fn hold(&mut self, what: impl Into<String>, value: f64, unit: &str, goal: f64) {
        self.add(what.into(), value, unit, Some(goal));
    }

    fn add(&mut self, what: String, value: f64, unit: &str, below: Option<f64>) {
        let figure = Figure { scenario: self.scenario.clone(), what, value, unit: unit.to_owned(), below };
        eprintln!("{figure}");
        self.all.push(figure);
    }

    /// Those of another scenario, too.
    pub(crate) fn extend(&mut self, other: Self) {
        self.all.extend(other.all);
    }

    /// Those whose goal was missed.
    pub(crate) fn missed(&self) -> Vec<&Figure> {
        self.all.iter().filter(|figure| figure.is_missed()).collect()
    }

    /// A Markdown table.
    pub(crate) fn table(&self) -> String {
        let mut lines = vec![
            "| scenario | what | value | unit | goal | met |".to_owned(),
            "|---|---|---|---|---|---|".to_owned(),
        ];
        for figure in &self.all {
            let goal = figure.below.map(|below| format!("< {}", Figure::shown(below))).unwrap_or_default();
            let met = figure.below.map_or("", |_| if figure.is_missed() { "**no**" } else { "yes" });
            let value = Figure::shown(figure.value);
            lines.push(format!(
                "| {} | {} | {value} | {} | {goal} | {met} |",
                figure.scenario, figure.what, figure.unit
            ));
        }
        lines.join("\n")
    }

    /// Writes them as JSON.
    pub(crate) fn write(&self, path: &Path) {
        let text = serde_json::to_string_pretty(&self.all).expect("figures are JSON");
        std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Reads what [`write`](Self::write) wrote.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let all = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        Some(Self { scenario: String::new(), all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_below_it_only() {
        let mut figures = Figures::of("x");
        figures.hold("a", 399.4, "bytes", 400.0);
        figures.hold("b", 400.0, "bytes", 400.0);
        figures.note("c", 0.1234, "s");
        assert_eq!(
            figures.missed().iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["x: b: 400 bytes, goal < 400"]
        );
        let table = figures.table();
        assert!(
            table.contains("| x | a | 399 | bytes | < 400 | yes |")
                && table.contains("| x | c | 0.123 | s |  |  |"),
            "{table}"
        );
    }
}
