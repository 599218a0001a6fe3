//! An address of 127.0.0.0/8 for each process, so that tests can run at the same time and all use the usual ports.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// The ports that processes of the mesh listen on: overlay, admin, telemetry of gateway and sidecar.
const PORTS: [u16; 4] = [7443, 7444, 7445, 7446];
/// How many addresses one test process may take.
const MOST: u32 = 16 * 250;

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

/// 127.32.0.1 to 127.223.255.250: below are the usual addresses of services, above is the overlay's virtual address. A process
/// has a block of 250 addresses, and 15 more spread over the range.
fn candidate(pid: u32, count: u32) -> Ipv4Addr {
    const RANGE: u32 = 192 * 256;
    let block = (pid + count / 250 * (RANGE / 16)) % RANGE;
    let octet = |value: u32| u8::try_from(value).expect("less than 256");
    Ipv4Addr::new(127, octet(32 + block / 256), octet(block % 256), octet(1 + count % 250))
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
        for pid in [1, 4095, 49_151, 49_152, 70_000, 4_194_304] {
            let all: BTreeSet<Ipv4Addr> = (0..MOST).map(|count| candidate(pid, count)).collect();
            assert_eq!(all.len(), MOST as usize, "{pid}");
            assert!(all.iter().all(|ip| ip.octets()[0] == 127 && (32..224).contains(&ip.octets()[1])));
            assert!(!all.contains(&candidate(pid + 1, 0)));
        }
        assert_ne!(loopback(), loopback());
    }
}
