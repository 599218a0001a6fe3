//! Two sidecars and what lies between them, on loopback: real QUIC, with a forwarder in place of gateways.

mod balance;
mod believed;
mod doubt;
mod endings;
mod limits;
mod mesh;
mod traffic;
mod trust;
mod udp;
