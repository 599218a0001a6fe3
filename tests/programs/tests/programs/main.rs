//! Real programs in network namespaces, none of them configured for the mesh: they are given a name, and find it by DNS. Capture is
//! set up as `deploy/README.md` tells operators. It needs root, `ip` and `nft`; a program that is missing is skipped by its name.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should say where"
)]

mod accounts;
mod calls;
mod capture;
mod mesh;
mod names;
mod network;
mod outside;
mod plain;
mod redirect;
mod servers;
mod vip;
