//! Addresses as the socket has them: an IPv6 socket shows and takes IPv4 addresses as mapped ones (RFC 4291 section 2.5.5.2).

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// `addr` as a socket of the given family shows it; `None` if that family cannot reach it. Flow labels are dropped, for two
/// packets of one sender may differ in them.
pub(super) fn to_socket(addr: SocketAddr, v6: bool) -> Option<SocketAddr> {
    match (addr.ip().to_canonical(), v6) {
        (IpAddr::V4(ip), false) => Some(SocketAddr::new(ip.into(), addr.port())),
        (IpAddr::V4(ip), true) => Some(SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port())),
        (IpAddr::V6(_), false) => None,
        (IpAddr::V6(ip), true) => {
            let scope = if let SocketAddr::V6(addr) = addr { addr.scope_id() } else { 0 };
            Some(SocketAddrV6::new(ip, addr.port(), 0, scope).into())
        }
    }
}

/// The source of a packet in the form of [`to_socket`].
#[inline]
pub(super) fn normal(source: SocketAddr) -> SocketAddr {
    match source {
        SocketAddr::V6(mut addr) => {
            addr.set_flowinfo(0);
            addr.into()
        }
        v4 @ SocketAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_match_the_socket_s_family() {
        let v4: SocketAddr = "192.0.2.1:7443".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:7443".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:7443".parse().unwrap();
        for (addr, socket_is_v6, expected) in [
            (v4, false, Some(v4)),
            (v4, true, Some(mapped)),
            (mapped, false, Some(v4)),
            (mapped, true, Some(mapped)),
            (v6, false, None),
            (v6, true, Some(v6)),
        ] {
            assert_eq!(to_socket(addr, socket_is_v6), expected, "{addr} {socket_is_v6}");
        }
        let labelled = SocketAddrV6::new("2001:db8::1".parse().unwrap(), 7443, 5, 0).into();
        assert_eq!(normal(labelled), v6);
    }
}
