//! Users and groups by name, and what else of the host a configuration depends on.

use std::process::Command;

/// What a configuration needs to know of the host.
pub trait Accounts {
    /// The number of user `name`.
    fn uid(&self, name: &str) -> Option<u32>;
    /// The number of group `name`.
    fn gid(&self, name: &str) -> Option<u32>;
    /// Whether loopback has an IPv6 address.
    fn has_ipv6(&self) -> bool;
}

/// This host, as the calling thread sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Accounts for System {
    fn uid(&self, name: &str) -> Option<u32> {
        look_up("passwd", name)
    }

    fn gid(&self, name: &str) -> Option<u32> {
        look_up("group", name)
    }

    fn has_ipv6(&self) -> bool {
        // of the thread, because threads can be in network namespaces of their own
        let addresses = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
        addresses.lines().any(|line| line.split_whitespace().next_back() == Some("lo"))
    }
}

fn look_up(database: &str, name: &str) -> Option<u32> {
    let file = std::fs::read_to_string(format!("/etc/{database}")).unwrap_or_default();
    find(&file, name).or_else(|| {
        // users that systemd makes as they are needed, or a directory service has, are in no file
        let asked = Command::new("getent").args([database, "--", name]).output().ok()?;
        find(&String::from_utf8_lossy(&asked.stdout), name)
    })
}

/// The number of `name` in the lines of passwd(5) or group(5).
fn find(lines: &str, name: &str) -> Option<u32> {
    lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_the_third_field() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\ncauseway:x:991:990::/:/sbin/nologin\nbad:x:y:\nshort";
        assert_eq!(find(passwd, "root"), Some(0));
        assert_eq!(find(passwd, "causeway"), Some(991));
        for name in ["bad", "short", "cause", ""] {
            assert_eq!(find(passwd, name), None, "{name}");
        }
    }

    #[test]
    fn root_is_everywhere() {
        assert_eq!((System.uid("root"), System.gid("root")), (Some(0), Some(0)));
        assert_eq!(System.uid("nobody-has-this-name"), None);
    }
}
