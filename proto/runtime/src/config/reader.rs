//! A whole configuration file: opening it, and the verdict once everything was read.

use super::errors::{ConfigErrors, Mistake};
use super::section::Section;
use super::tree::{self, Table};
use crate::files;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// The largest configuration file that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// A configuration that is being read. It is a [`Section`] (the top of the file), and [`Reader::finish`] or
/// [`Reader::build`] says whether all was well.
#[derive(Debug)]
#[must_use = "mistakes are reported only by finish() or build()"]
pub struct Reader {
    path: PathBuf,
    top: Section,
}

impl Reader {
    /// Reads `text`; `path` is for messages.
    ///
    /// # Errors
    /// Every place where the text is not TOML.
    pub fn parse(path: impl Into<PathBuf>, text: &str) -> Result<Self, ConfigErrors> {
        let path = path.into();
        match tree::parse(text) {
            Ok(table) => Ok(Self { path, top: Section::top(table) }),
            Err(mistakes) => Err(ConfigErrors { path, mistakes }),
        }
    }

    /// Reads the file at `path`, of [`MAX_FILE`] bytes at most; without one, everything comes from flags and defaults.
    ///
    /// # Errors
    /// The file cannot be read, is not UTF-8, or is not TOML.
    pub fn open(path: Option<&Path>) -> Result<Self, ConfigErrors> {
        let Some(path) = path else { return Ok(Self::empty()) };
        let whole = |problem: String| ConfigErrors {
            path: path.to_owned(),
            mistakes: vec![Mistake { key: String::new(), value: None, problem, line: None }],
        };
        let bytes = files::read_limited(path, MAX_FILE).map_err(|error| whole(error.without_path()))?;
        let text = String::from_utf8(bytes).map_err(|error| whole(format!("not UTF-8: {error}")))?;
        Self::parse(path, &text)
    }

    /// A configuration without a file.
    pub fn empty() -> Self {
        Self { path: PathBuf::new(), top: Section::top(Table::default()) }
    }

    /// The top of the file, to hand to functions that read sections.
    pub fn top(&self) -> &Section {
        &self.top
    }

    /// The verdict. Call it after everything was read: keys that nobody asked for are unknown.
    ///
    /// # Errors
    /// All mistakes, in the order of their lines.
    pub fn finish(self) -> Result<(), ConfigErrors> {
        self.top.report_unknown();
        let mut mistakes = self.top.take_mistakes();
        if mistakes.is_empty() {
            return Ok(());
        }
        mistakes.sort_by_key(|mistake| mistake.line.unwrap_or(usize::MAX));
        // a key may be read twice
        mistakes.dedup();
        Err(ConfigErrors { path: self.path, mistakes })
    }

    /// [`Reader::finish`], and the value that was put together from what was read: `None` stands for "something that is
    /// required is missing", which has been reported by whoever looked for it.
    ///
    /// # Errors
    /// All mistakes, in the order of their lines.
    pub fn build<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        let path = self.path.clone();
        self.finish()?;
        value.ok_or_else(|| {
            let problem = "it is incomplete, and nothing said what is missing".to_owned();
            ConfigErrors {
                path,
                mistakes: vec![Mistake { key: String::new(), value: None, problem, line: None }],
            }
        })
    }
}

impl Deref for Reader {
    type Target = Section;

    fn deref(&self) -> &Section {
        &self.top
    }
}
