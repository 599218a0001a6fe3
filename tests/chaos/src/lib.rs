//! What the registry promises, held against real processes that are killed, stopped, cut off and damaged.
//!
//! This crate owns the tools: clusters whose gateways can be broken ([`Fleet`], [`Injector`]), loads that keep a ledger of what
//! they were promised ([`Writes`], [`Requests`], [`Watcher`]), the recorder of concurrent histories with the specification
//! that they are checked against ([`history`], [`exports`]), and the comparison of what the gateways answer ([`View`]). What is
//! expected is in `tests/`. The checker of linearizability is the crate `todc-utils`, an implementation of the algorithm of Wing,
//! Gong and Lowe with memoization.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the harness of tests: what cannot go on ends the test and says where"
)]

mod admin;
mod clients;
mod damage;
mod disk;
pub mod exports;
mod fault;
mod fleet;
mod gap;
pub mod history;
mod inject;
mod member;
mod relays;
mod requests;
mod side;
mod summary;
mod view;
mod watcher;
mod writes;

pub use admin::{Admin, Answer};
pub use clients::Clients;
pub use damage::Damage;
pub use disk::SmallDisk;
pub use fault::{Kind, Plan};
pub use fleet::{Fleet, FleetBuilder};
pub use gap::{Gap, Gaps};
pub use inject::Injector;
pub use member::Member;
pub use relays::Lossy;
pub use requests::{Requests, RequestsTold};
pub use side::{Side, SideBuilder};
pub use summary::Summary;
pub use view::{View, wait_equal};
pub use watcher::{Watched, Watcher};
pub use writes::{Ledger, Verdict, Writes};
