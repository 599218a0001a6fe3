//! What every process needs, whichever part of the mesh it plays: tasks with names, shutdown and drain, readiness, config,
//! logs, metrics, HTTP for operators, files that survive a crash, sockets that survive a restart, and the errors that tell an operator what to do.
//!
//! It knows no noun of the mesh (no cluster, service or gateway) and no protocol of it. Crates of the data path use the
//! parts they need; nothing in here is global except the log subscriber and the signal handlers.

#![forbid(unsafe_code)]

pub mod backoff;
pub mod bind;
pub mod channel;
pub mod clock;
pub mod config;
pub mod drain;
pub mod files;
pub mod handover;
pub mod http;
pub mod https;
pub mod limits;
pub mod logs;
pub mod metrics;
pub mod readiness;
pub mod runtimes;
pub mod signals;
pub mod tasks;

mod connections;

pub use backoff::Backoff;
pub use bind::{BindError, bind_error, bind_tcp};
pub use channel::channel;
pub use config::{ConfigDuration, ConfigErrors, Mistake, Reader, Secret, Section};
pub use drain::{Drain, DrainGuard, DrainOutcome, DrainTrigger};
pub use files::{DirLock, DiskError, LockError};
pub use handover::{HandoverError, HandoverListener, Offers, Predecessor, Socket, Successor, take_over};
pub use http::TelemetryServer;
pub use https::serve_https;
pub use logs::{LogError, LogFormat, init_logs};
pub use metrics::Metrics;
pub use readiness::{Readiness, ReadyGuard};
pub use runtimes::{DataRuntime, control_runtime};
pub use signals::shutdown_signal;
pub use tasks::{Failure, TaskEnd, Tasks};
