//! What to write for the plain types, whose own parse errors do not say it. Types of the project say it themselves.

use std::any::TypeId;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What to write for a `T`, if it is one of the plain types.
pub(super) fn expected<T: 'static>() -> Option<&'static str> {
    let rules = [
        (TypeId::of::<bool>(), "write true or false"),
        (TypeId::of::<u8>(), "write a whole number from 0 to 255"),
        (TypeId::of::<u16>(), "write a whole number from 0 to 65535"),
        (TypeId::of::<u32>(), "write a whole number from 0 to 4294967295"),
        (TypeId::of::<u64>(), "write a whole number, 0 or more"),
        (TypeId::of::<usize>(), "write a whole number, 0 or more"),
        (TypeId::of::<i32>(), "write a whole number"),
        (TypeId::of::<i64>(), "write a whole number"),
        (TypeId::of::<f64>(), "write a number"),
        (TypeId::of::<SocketAddr>(), "write IP:PORT, an IPv6 address in brackets: 0.0.0.0:7443 or [::]:7443"),
        (TypeId::of::<IpAddr>(), "write an IP address"),
        (TypeId::of::<Ipv4Addr>(), "write an IPv4 address"),
        (TypeId::of::<Ipv6Addr>(), "write an IPv6 address"),
    ];
    let wanted = TypeId::of::<T>();
    rules.iter().find(|(id, _)| *id == wanted).map(|(_, rule)| *rule)
}
