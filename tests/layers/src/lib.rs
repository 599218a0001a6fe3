//! The layers of the workspace, as a table, and what breaks it.
//!
//! The table says which crate may use which, which crate alone may use a library that the design keeps in one place, and
//! which crates are pure. `tests/layers.rs` holds the manifests and sources of the workspace against it. A new crate
//! gets a row here first.

mod deploy;
mod manifest;
mod rules;
mod sources;

pub use deploy::{Unit, UnitError};
pub use manifest::{Edge, Manifest, ManifestError, Workspace};
pub use rules::{CRATES, Crate, EXCLUSIVE, IMPURE, Violation, violations};
pub use sources::{IMPURE_CALLS, impure_calls};
