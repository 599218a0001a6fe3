//! The little of systemd's unit syntax that is needed to check the units under `deploy/`.

use std::collections::BTreeMap;

/// A line of a unit that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} {text:?} of the unit is neither a section, a setting nor a comment")]
pub struct UnitError {
    /// Counted from 1.
    pub line: usize,
    /// The line.
    pub text: String,
}

/// A unit file: settings by section, in order (systemd.syntax(7)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    settings: BTreeMap<(String, String), Vec<String>>,
}

impl Unit {
    /// Reads a unit. A backslash at the end of a line continues it.
    ///
    /// # Errors
    /// At the first line that is not understood.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let mut unit = Self::default();
        let (mut section, mut pending) = (String::new(), String::new());
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if pending.is_empty() && (line.is_empty() || line.starts_with(['#', ';'])) {
                continue;
            }
            if let Some(start) = line.strip_suffix('\\') {
                pending.push_str(start);
                continue;
            }
            let whole = std::mem::take(&mut pending) + line;
            if let Some(name) = whole.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.to_owned();
            } else if let Some((key, value)) = whole.split_once('=').filter(|_| !section.is_empty()) {
                let key = (section.clone(), key.trim().to_owned());
                unit.settings.entry(key).or_default().push(value.trim().to_owned());
            } else {
                return Err(UnitError { line: number + 1, text: whole });
            }
        }
        Ok(unit)
    }

    /// The values of a setting, in the order of the file; none if it is not set.
    pub fn values(&self, section: &str, key: &str) -> &[String] {
        self.settings.get(&(section.to_owned(), key.to_owned())).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_settings_comments_and_continued_lines() {
        let unit =
            Unit::parse("# why\n[Service]\nExecStart=/bin/a \\\n  b\nKey=\nKey = 2\n\n[Install]\nKey=3\n")
                .unwrap();
        assert_eq!(unit.values("Service", "ExecStart"), ["/bin/a b"]);
        assert_eq!(unit.values("Service", "Key"), ["", "2"]);
        assert_eq!(unit.values("Install", "Key"), ["3"]);
        assert_eq!(unit.values("Unit", "Key"), [""; 0]);
    }

    #[test]
    fn a_strange_line_is_named() {
        let error = Unit::parse("[Service]\nExecStart\n").unwrap_err();
        assert_eq!((error.line, error.text.as_str()), (2, "ExecStart"));
        assert!(Unit::parse("Key=1").is_err());
    }
}
