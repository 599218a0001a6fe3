//! What is wrong with a configuration, in words for whoever wrote it.

use std::fmt;
use std::path::PathBuf;

/// Everything that is wrong with a configuration, in the order of its lines. Displayed one mistake a line, as
/// `FILE:LINE: KEY = VALUE: PROBLEM`, without the value where the problem names it. A mistake of a flag is not the file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file; empty if there is none and all comes from flags.
    pub path: PathBuf,
    /// The mistakes, at least one.
    pub mistakes: Vec<Mistake>,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key with the tables that it is in (`limits.streams`), or the flag (`--listen`); empty if the file as a whole is
    /// wrong.
    pub key: String,
    /// The value as written, cut to 60 characters. `None` if there is none, if it is a secret, or if the key is unknown
    /// (it may be a misspelt secret).
    pub value: Option<String>,
    /// What is wrong and what to write instead.
    pub problem: String,
    /// The line, from 1. `None` for what is missing.
    pub line: Option<usize>,
}

impl ConfigErrors {
    /// The stable name of this kind of error in logs and metrics.
    pub fn reason(&self) -> &'static str {
        "config"
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.as_str(), &self.value) {
            ("", _) => {}
            (key, None) => write!(f, "{key}: ")?,
            // most errors of the project's own types name the value
            (key, Some(value)) if value.starts_with('"') && self.problem.contains(value) => {
                write!(f, "{key}: ")?;
            }
            (key, Some(value)) if key.starts_with('-') => write!(f, "{key} {value}: ")?,
            (key, Some(value)) => write!(f, "{key} = {value}: ")?,
        }
        f.write_str(&self.problem)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let elsewhere = self.path.as_os_str().is_empty() || mistake.key.starts_with('-');
            match (elsewhere, mistake.line) {
                (true, _) => write!(f, "configuration: {mistake}")?,
                (false, Some(line)) => write!(f, "{}:{line}: {mistake}", self.path.display())?,
                (false, None) => write!(f, "{}: {mistake}", self.path.display())?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
