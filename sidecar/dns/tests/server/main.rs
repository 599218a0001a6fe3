//! A DNS server asked over real sockets of this machine, with an upstream of the test's own.

#![cfg(test)]

mod bounds;
mod forward;
mod mesh;
mod upstream;
mod world;
