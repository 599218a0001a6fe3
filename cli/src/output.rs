//! What goes to the terminal: results to standard output in the format that was asked for, notes to standard error.

mod table;
mod units;

pub(crate) use table::Table;
pub(crate) use units::{instant, list, or_dash, relative, rtt, seconds, yes_no};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;
use std::io::{ErrorKind, Write};

/// How a result is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people and for grep; what is not there is a dash
    #[default]
    Table,
    /// The admin API's JSON; a watch writes one object a line
    Json,
    /// The same as YAML; a watch writes one document a change
    Yaml,
}

/// The flag that chooses the format.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Output {
    /// How to write the result
    #[arg(short = 'o', long = "output", value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) format: Format,
}

impl Output {
    /// Writes `value` in the format; `table` is its form for people.
    pub(crate) fn show<T: Serialize>(self, value: &T, table: impl FnOnce(&T) -> String) -> Result<()> {
        match self.format {
            Format::Table => say(&table(value)),
            Format::Json => say(&serde_json::to_string_pretty(value).context("cannot write JSON")?),
            Format::Yaml => say(&serde_saphyr::to_string(value).context("cannot write YAML")?),
        }
    }
}

/// How a list that may be long is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// Columns for people and for grep; what is not there is a dash
    #[default]
    Table,
    /// The admin API's JSON; with --all and --watch one object a line
    Json,
    /// The same as YAML; with --all and --watch one document each
    Yaml,
    /// The table with more columns
    Wide,
    /// The names only, one a line
    Name,
}

/// The flag that chooses the format of a list.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct ListOutput {
    /// How to write the result
    #[arg(short = 'o', long = "output", value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) format: ListFormat,
}

/// Writes `value` as one line of JSON.
pub(crate) fn say_line(value: &impl Serialize) -> Result<()> {
    say(&serde_json::to_string(value).context("cannot write JSON")?)
}

/// Writes `value` as one of many YAML documents.
pub(crate) fn say_document(value: &impl Serialize) -> Result<()> {
    say(&format!("---\n{}", serde_saphyr::to_string(value).context("cannot write YAML")?))
}

/// Whoever read standard output closed it: not an error, but the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("standard output is closed")]
pub(crate) struct OutputClosed;

/// Writes `text` to standard output, with a line end if it has none.
pub(crate) fn say(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match write!(stdout, "{text}{end}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

/// Writes `text` to standard error. When even that is closed there is nobody left to tell.
pub(crate) fn note(text: &str) {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let _ = write!(std::io::stderr().lock(), "{text}{end}");
}

/// `text` without control characters other than line ends: what another cluster says must not steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}
