//! Who is asked about other names: the list of upstreams, and that none of them is this server.

use crate::{DnsError, Upstreams};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

/// The port of name servers in resolv.conf(5).
const PORT: u16 = 53;

/// The upstreams of a server that listens on `listen`.
pub(crate) fn upstreams(from: &Upstreams, listen: &[SocketAddr]) -> Result<Vec<SocketAddr>, DnsError> {
    match from {
        Upstreams::None => Ok(Vec::new()),
        Upstreams::List(list) => {
            for &upstream in list {
                if let Some(&listen) = listen.iter().find(|&&listen| is_same(upstream, listen)) {
                    return Err(DnsError::Loop { upstream, listen });
                }
            }
            Ok(list.clone())
        }
        Upstreams::ResolvConf(path) => {
            let ours = |upstream: &SocketAddr| listen.iter().any(|&listen| is_same(*upstream, listen));
            let mut named = read(path)?;
            if named.is_empty() {
                return Err(DnsError::NoUpstream { path: path.clone() });
            }
            named.retain(|upstream| !ours(upstream));
            if named.is_empty() {
                // the file has been pointed at this server: who was named before it is in the copy
                let kept = kept(path);
                named = if kept.exists() { read(&kept)? } else { Vec::new() };
                named.retain(|upstream| !ours(upstream));
            }
            if named.is_empty() { Err(DnsError::OnlyOurselves { path: path.clone() }) } else { Ok(named) }
        }
    }
}

/// Where the original of a `resolv.conf` is that `causeway sidecar init` has pointed at this server.
fn kept(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".causeway");
    name.into()
}

/// The name servers of a file.
fn read(path: &Path) -> Result<Vec<SocketAddr>, DnsError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(name_servers(&text)),
        Err(source) => Err(DnsError::ResolvConf { path: path.to_owned(), source }),
    }
}

/// The addresses of the `nameserver` lines.
fn name_servers(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|&word| word == "nameserver").and_then(|_| words.next())?;
        parse(address)
    };
    text.lines().filter_map(address).collect()
}

/// Reads an address, with the interface if it is of one link only (`fe80::1%eth0`).
fn parse(address: &str) -> Option<SocketAddr> {
    if let Ok(ip) = address.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, PORT));
    }
    let (ip, interface) = address.split_once('%')?;
    let index = match interface.parse() {
        Ok(index) => index,
        Err(_) => std::fs::read_to_string(format!("/sys/class/net/{}/ifindex", interface.replace('/', "")))
            .ok()?
            .trim()
            .parse()
            .ok()?,
    };
    Some(std::net::SocketAddrV6::new(ip.parse().ok()?, PORT, 0, index).into())
}

/// Whether what is sent to `upstream` comes to a socket that is bound to `listen`.
fn is_same(upstream: SocketAddr, listen: SocketAddr) -> bool {
    let (to, at) = (upstream.ip().to_canonical(), listen.ip().to_canonical());
    // our own sockets for `::` take no IPv4
    let any = at.is_unspecified() && at.is_ipv4() == to.is_ipv4();
    let reaches = to == at || (any && (to.is_unspecified() || is_local(to)));
    upstream.port() == listen.port() && reaches
}

/// Whether `ip` is an address of this machine: only then can a socket have it.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(text: &str) -> (tempfile::NamedTempFile, Upstreams) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let from = Upstreams::ResolvConf(file.path().to_owned());
        (file, from)
    }

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn upstreams_are_those_that_a_file_named_before_it_was_pointed_at_us() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 127.0.0.1\n").unwrap();
        let (from, listen) = (Upstreams::ResolvConf(path.clone()), addresses(&["127.0.0.1:53"]));
        assert_eq!(upstreams(&from, &listen).unwrap_err().reason(), "dns-loop");
        std::fs::write(kept(&path), "nameserver 127.0.0.1\nnameserver 192.0.2.1\n").unwrap();
        assert_eq!(upstreams(&from, &listen).unwrap(), addresses(&["192.0.2.1:53"]));
        // an operator who names another one since is heard
        std::fs::write(&path, "nameserver 192.0.2.2\n").unwrap();
        assert_eq!(upstreams(&from, &listen).unwrap(), addresses(&["192.0.2.2:53"]));
    }

    #[test]
    fn name_servers_are_read_and_our_own_addresses_left_out() {
        let text = "# nameserver 192.0.2.9\nsearch mesh\n\
            nameserver 127.0.0.53\n nameserver\t192.0.2.1 # x\nnameserver 2001:db8::1\nnameserver nonsense\noptions ndots:5\n";
        let (_file, from) = file(text);
        let all = addresses(&["127.0.0.53:53", "192.0.2.1:53", "[2001:db8::1]:53"]);
        assert_eq!(upstreams(&from, &addresses(&["127.0.0.1:53"])).unwrap(), all);
        assert_eq!(upstreams(&from, &addresses(&["127.0.0.53:53"])).unwrap(), all[1..]);
        assert_eq!(upstreams(&from, &addresses(&["0.0.0.0:53"])).unwrap(), all[1..]);
        assert_eq!(upstreams(&from, &addresses(&["127.0.0.53:5353"])).unwrap(), all);
    }

    #[test]
    fn a_loop_is_a_clear_error() {
        let (_file, from) = file("nameserver 127.0.0.1\n");
        let error = upstreams(&from, &addresses(&["127.0.0.1:53"])).unwrap_err();
        assert!(error.reason() == "dns-loop" && error.to_string().contains("circles"), "{error}");
        let own = addresses(&["127.0.0.1:5300"]);
        let error =
            upstreams(&Upstreams::List(addresses(&["192.0.2.1:53", "127.0.0.1:5300"])), &own).unwrap_err();
        assert!(error.to_string().contains("127.0.0.1:5300"), "{error}");
        for listen in ["0.0.0.0:5300", "[::ffff:127.0.0.1]:5300"] {
            assert!(upstreams(&Upstreams::List(own.clone()), &addresses(&[listen])).is_err(), "{listen}");
        }
    }

    #[test]
    fn a_file_without_name_servers_is_an_error_and_none_is_not() {
        let (_file, from) = file("search mesh\n");
        assert_eq!(upstreams(&from, &[]).unwrap_err().reason(), "dns-no-upstream");
        let missing = Upstreams::ResolvConf("/nonexistent/resolv.conf".into());
        assert_eq!(upstreams(&missing, &[]).unwrap_err().reason(), "dns-resolv-conf");
        assert!(upstreams(&Upstreams::None, &[]).unwrap().is_empty());
    }
}
