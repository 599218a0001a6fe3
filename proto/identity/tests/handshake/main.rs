//! Real rustls handshakes in memory, over everything that the configurations promise.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod forged;
mod mesh;
mod pair;
mod web;
