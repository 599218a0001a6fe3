//! Looks whether the demo's addresses are free before anything starts: a demo that runs already is told as that.

use super::plan::{GatewayPlan, SidecarPlan};
use crate::failure::Failure;
use std::net::{SocketAddr, TcpListener, UdpSocket};

/// # Errors
/// The first address that cannot be used, and why.
pub(super) fn check(
    gateways: impl Iterator<Item = GatewayPlan>,
    sidecars: impl Iterator<Item = SidecarPlan>,
) -> Result<(), Failure> {
    for gateway in gateways {
        UdpSocket::bind(gateway.overlay()).map_err(|error| taken("UDP", gateway.overlay(), &error))?;
        tcp(gateway.admin())?;
        tcp(gateway.telemetry())?;
    }
    for sidecar in sidecars {
        sidecar.listen().map_or(Ok(()), tcp)?;
        tcp(sidecar.telemetry())?;
    }
    Ok(())
}

fn tcp(addr: SocketAddr) -> Result<(), Failure> {
    TcpListener::bind(addr).map(drop).map_err(|error| taken("TCP", addr, &error))
}

fn taken(protocol: &str, addr: SocketAddr, error: &std::io::Error) -> Failure {
    let failure =
        Failure::new("demo_address", format!("the demo needs {protocol} {addr} on this machine: {error}"));
    match error.kind() {
        std::io::ErrorKind::AddrInUse => failure
            .cause("another process has it; most likely another demo runs")
            .fix("end the other demo, or see `ss -tulpn` for who has the address"),
        std::io::ErrorKind::AddrNotAvailable => failure
            .cause("this system gives only 127.0.0.1 to loopback, not all of 127.0.0.0/8 as Linux does")
            .fix("run the demo on Linux, or add the addresses 127.0.11.1 to 127.0.12.11 to the loopback interface"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_address_is_named() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = held.local_addr().unwrap();
        let failure = tcp(addr).unwrap_err();
        assert!(failure.message.contains(&format!("TCP {addr}")), "{failure:?}");
        assert!(failure.causes[0].contains("another demo"), "{failure:?}");
        drop(held);
        tcp(addr).unwrap();
    }
}
