//! Configuration from TOML files and flags, with every mistake reported in one run.
//!
//! Owns reading: unknown keys are refused with a suggestion, each value is parsed by its own type, flags win over the
//! file, and nothing is reported before everything was looked at. Which keys there are, what they mean and whether they
//! fit together is said by the crate whose configuration it is:
//!
//! ```
//! # use causeway_runtime::config::{ConfigDuration, ConfigErrors, Reader};
//! # use std::net::SocketAddr;
//! struct Config { listen: SocketAddr, idle: ConfigDuration, streams: u32 }
//!
//! fn read(path: &str, text: &str, listen: Option<SocketAddr>) -> Result<Config, ConfigErrors> {
//!     let file = Reader::parse(path, text)?;
//!     let listen = file.merged_required("listen", listen);
//!     let idle = file.or("idle", ConfigDuration::from_secs(10));
//!     let limits = file.table("limits");
//!     let streams = limits.or("streams", 100);
//!     if streams == 0 {
//!         limits.reject("streams", "must be at least 1");
//!     }
//!     file.build(listen.map(|listen| Config { listen, idle, streams }))
//! }
//! # let errors = read("gw.toml", "listen = \"here\"\n[limits]\nstreem = 5", None).err().unwrap();
//! # assert_eq!(errors.mistakes.len(), 2);
//! ```

mod duration;
mod errors;
mod expected;
mod reader;
mod secret;
mod section;
mod suggest;
mod tree;

#[cfg(test)]
mod tests;

pub use duration::ConfigDuration;
pub use errors::{ConfigErrors, Mistake};
pub use reader::{MAX_FILE, Reader};
pub use secret::{Secret, SecretError};
pub use section::Section;
