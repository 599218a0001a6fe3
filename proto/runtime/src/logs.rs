//! Logs: one subscriber for the process, to standard error, as text or JSON lines.
//!
//! Owns where the filter comes from and the default, and that a standard error that nobody reads holds up no traffic. What is
//! logged is up to each crate.

mod queue;

use queue::Lines;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// The filter if none is given: our own from `info`, libraries that report on each connection from `warn`. openraft says five lines
/// at each heartbeat to a node that is away; that it is away, and why, is said by us, once.
pub const DEFAULT_FILTER: &str = concat!(
    "info,openraft=error,openraft::replication=off,",
    "quinn=warn,quinn_proto=warn,quinn_udp=error,rustls=warn,hyper=warn,h2=warn",
);

/// The flag and the variables that set the filter; the first that is set wins.
const SOURCES: [&str; 3] = ["--log", "CAUSEWAY_LOG", "RUST_LOG"];

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people, in colour on a terminal.
    #[default]
    Text,
    /// One JSON object a line, fields at the top.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl FromStr for LogFormat {
    type Err = LogError;

    fn from_str(s: &str) -> Result<Self, LogError> {
        match s {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(LogError::Format(s.chars().take(60).collect())),
        }
    }
}

/// Why logs were not set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter does not parse.
    #[error(
        "invalid log filter {filter:?} from {from}: {problem}; write for example info or warn,causeway_gateway=debug"
    )]
    Filter {
        /// The flag or variable that it came from.
        from: &'static str,
        /// The filter.
        filter: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The format is not known.
    #[error("invalid log format {0:?}: write text or json")]
    Format(String),
    /// Logs are set up once.
    #[error("logs are already set up: {0}")]
    Again(#[from] TryInitError),
}

impl LogError {
    /// The stable name of this error.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Filter { .. } => "log_filter",
            Self::Format(_) => "log_format",
            Self::Again(_) => "log_again",
        }
    }
}

/// Sets up logs for the process. The filter is `filter`, else `CAUSEWAY_LOG`, else `RUST_LOG`, else
/// [`DEFAULT_FILTER`]; an empty one counts as not given.
///
/// # Errors
/// The filter is invalid, or logs are already set up.
pub fn init_logs(filter: Option<&str>, format: LogFormat) -> Result<(), LogError> {
    let variable = |index: usize| std::env::var(SOURCES[index]).ok();
    let filter = choose([filter.map(str::to_owned), variable(1), variable(2)])?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Lines::start());
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).finish().try_init()?,
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

/// The filter from the first of [`SOURCES`] that has one.
fn choose(given: [Option<String>; 3]) -> Result<EnvFilter, LogError> {
    let given = SOURCES.into_iter().zip(given).filter_map(|(from, text)| Some((from, text?)));
    let first = given.into_iter().find(|(_, text)| !text.trim().is_empty());
    let (from, filter) = first.unwrap_or(("the default", DEFAULT_FILTER.to_owned()));
    EnvFilter::builder().parse(&filter).map_err(|error| LogError::Filter {
        from,
        problem: error.to_string(),
        filter,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_flag_wins_then_our_variable_then_rusts() {
        let chosen = |given| choose(given).unwrap().to_string();
        assert_eq!(chosen([some("debug"), some("warn"), some("error")]), "debug");
        assert_eq!(chosen([None, some("warn"), some("error")]), "warn");
        assert_eq!(chosen([None, some(" "), some("error")]), "error");
        assert!(chosen([None, None, None]).contains("quinn=warn"));
    }

    #[test]
    fn an_invalid_filter_is_named_with_its_source() {
        let error = choose([None, some("causeway=loud"), None]).unwrap_err();
        assert_eq!(error.reason(), "log_filter");
        let said = error.to_string();
        assert!(said.starts_with("invalid log filter \"causeway=loud\" from CAUSEWAY_LOG: "), "{said}");
    }

    #[test]
    fn formats_print_as_they_parse() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(format.to_string().parse::<LogFormat>().unwrap(), format);
            assert_eq!(serde_json::to_string(&format).unwrap(), format!("\"{format}\""));
        }
        assert!("xml".parse::<LogFormat>().unwrap_err().to_string().contains("write text or json"));
    }

    #[test]
    fn logs_are_set_up_once() {
        init_logs(Some("off"), LogFormat::Json).unwrap();
        assert_eq!(init_logs(Some("off"), LogFormat::Text).unwrap_err().reason(), "log_again");
        assert_eq!(init_logs(Some("a=b=c"), LogFormat::Text).unwrap_err().reason(), "log_filter");
    }
}
