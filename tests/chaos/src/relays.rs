//! The relays that packets to a gateway pass, and what is lost in them.

use causeway_test_mesh::loopback;
use causeway_wan::{Direction, Impairment, Relay};
use std::net::Ipv4Addr;

/// Which packets between a gateway and those that dial it are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lossy {
    /// None is.
    No,
    /// Those that it sends.
    Sent,
    /// Those that it is sent.
    Received,
    /// All.
    Both,
}

/// The relays of one gateway.
#[derive(Debug)]
pub(crate) struct Relays {
    /// For gateways of linked clusters.
    pub(crate) far: Relay,
    /// For the cluster's other gateways, and its sidecars.
    pub(crate) near: Relay,
}

impl Relays {
    /// Starts those in front of the gateway at `ip`.
    #[track_caller]
    pub(crate) fn start(ip: Ipv4Addr, seed: u64) -> Self {
        let relay = || {
            let (listen, target) = ((loopback(), 7443).into(), (ip, 7443).into());
            Relay::start(listen, target, Impairment::CLEAR, Impairment::CLEAR, seed).expect("a relay starts")
        };
        Self { far: relay(), near: relay() }
    }

    /// The arguments with which a gateway tells others to come through them.
    pub(crate) fn args(&self) -> impl Iterator<Item = String> {
        let addresses = [("link", &self.far), ("cluster", &self.near)];
        let args =
            addresses.map(|(of, relay)| ["--advertise".to_owned(), format!("{of}={}", relay.local_addr())]);
        args.into_iter().flatten()
    }
}

/// Loses packets in a relay.
pub(crate) fn lose(relay: &Relay, lossy: Lossy) {
    let cut = |lost: bool| if lost { Impairment::CUT } else { Impairment::CLEAR };
    // others send to it, and get the answers back through it
    relay.set(Direction::Forward, cut(matches!(lossy, Lossy::Received | Lossy::Both)));
    relay.set(Direction::Back, cut(matches!(lossy, Lossy::Sent | Lossy::Both)));
}
