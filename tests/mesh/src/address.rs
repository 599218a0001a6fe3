//! An address of 127.0.0.0/8 for each process, so that tests can run at the same time and all use the usual ports.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// The ports that processes of the mesh listen on: overlay, admin, telemetry of gateway and sidecar.
const PORTS: [u16; 4] = [7443, 7444, 7445, 7446];
/// How many addresses one test process may take.
const MOST: u32 = 4096;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A loopback address on which nobody listens on the mesh's ports. It follows from the process id and a counter; one that is
/// taken, as by another user's run, is passed over.
pub fn loopback() -> Ipv4Addr {
    loop {
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(count < MOST, "this process has used {MOST} loopback addresses");
        let address = candidate(std::process::id(), count);
        if is_free(address) {
            return address;
        }
    }
}

/// 127.32.0.1 to 127.223.255.250: below are the usual addresses of services, above is the overlay's virtual address.
fn candidate(pid: u32, count: u32) -> Ipv4Addr {
    let [.., high, low] = pid.wrapping_add((count / 250) << 12).to_be_bytes();
    let host = u8::try_from(1 + count % 250).expect("at most 250");
    Ipv4Addr::new(127, 32 + high % 192, low, host)
}

fn is_free(address: Ipv4Addr) -> bool {
    PORTS
        .iter()
        .all(|&port| TcpListener::bind((address, port)).is_ok() && UdpSocket::bind((address, port)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn addresses_differ_and_stay_in_their_range() {
        let all: BTreeSet<Ipv4Addr> = (0..MOST).map(|count| candidate(70_000, count)).collect();
        assert_eq!(all.len(), MOST as usize);
        assert!(all.iter().all(|ip| ip.octets()[0] == 127 && (32..224).contains(&ip.octets()[1])));
        assert!(!all.contains(&candidate(70_001, 0)));
        assert_ne!(loopback(), loopback());
    }
}
