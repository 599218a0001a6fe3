//! The long-running processes: flags become options, options a configuration, and the configuration a running process.
//!
//! Keys, defaults and bounds are the processes' own; this module owns the flags and how a configuration is told.

pub(crate) mod gateway;
pub(crate) mod sidecar;

use crate::failure::Failure;
use causeway_runtime::ConfigErrors;

/// What to tell about a configuration with mistakes: all of them.
fn refused(command: &str, errors: &ConfigErrors) -> Failure {
    let count = errors.mistakes.len();
    let what = if count == 1 { "a mistake".to_owned() } else { format!("{count} mistakes") };
    let mut failure = Failure::new(errors.reason(), format!("the configuration has {what}"));
    // one mistake a line
    for mistake in errors.to_string().lines() {
        failure = failure.cause(mistake);
    }
    failure.fix(format!(
        "`causeway {command} --help` tells every flag; the keys of the file have the same names"
    ))
}

/// A configuration as the TOML that would give it; keys are written with hyphens, as they are read.
fn to_toml(table: toml::Table) -> Result<String, toml::ser::Error> {
    toml::to_string(&hyphenated(table))
}

fn hyphenated(table: toml::Table) -> toml::Table {
    let rename = |(key, value): (String, toml::Value)| {
        let value = match value {
            toml::Value::Table(table) => toml::Value::Table(hyphenated(table)),
            other => other,
        };
        (key.replace('_', "-"), value)
    };
    table.into_iter().map(rename).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_told() {
        let path = std::path::Path::new("gw.toml");
        let file = causeway_runtime::Reader::parse(path, "a = 1\nb = 2").unwrap();
        let failure = refused("gateway", &file.finish().unwrap_err());
        assert_eq!(failure.message, "the configuration has 2 mistakes");
        assert!(failure.causes[0].starts_with("gw.toml:1: a: "), "{failure:?}");
        assert!(failure.causes[1].starts_with("gw.toml:2: b: "), "{failure:?}");
    }

    #[test]
    fn keys_are_written_as_they_are_read() {
        let table: toml::Table = "data_dir = 'd'\n[transport]\ndatagram_size = 1452".parse().unwrap();
        assert_eq!(to_toml(table).unwrap(), "data-dir = \"d\"\n\n[transport]\ndatagram-size = 1452\n");
    }
}
