//! The flags of `causeway sidecar init`, and how they become a configuration: every mistake is told at once.

use super::{
    Accounts, CaptureConfig, CaptureMode, DNS_PORT, Inbound, Means, Networks, OUTBOUND_PORT, Ports, Redirect,
    ResolvConf,
};
use causeway_runtime::{ConfigErrors, Mistake};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::IpAddr;
use std::path::PathBuf;

/// The user that a sidecar is taken to run as if none is named.
const USUAL_USER: &str = "causeway";
/// The users of resolvers that ask others for their answers: their questions must not come back to the sidecar.
const RESOLVERS: [&str; 1] = ["systemd-resolve"];

/// What flags say, as written. A flag is named as its field, with hyphens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureOptions {
    /// The users that the sidecar runs as, by number or name.
    pub uid: Vec<String>,
    /// The groups that the sidecar runs as, by number or name.
    pub gid: Vec<String>,
    /// Users whose traffic is left alone.
    pub exclude_uid: Vec<String>,
    /// Where TCP and UDP is led to.
    pub outbound_port: Option<String>,
    /// Where DNS questions are led to.
    pub dns_port: Option<String>,
    /// The ports that TCP is captured to.
    pub include_port: Vec<String>,
    /// The ports that nothing is captured to.
    pub exclude_port: Vec<String>,
    /// The networks that TCP is captured to.
    pub include_cidr: Vec<String>,
    /// The networks that nothing is captured to.
    pub exclude_cidr: Vec<String>,
    /// What becomes of plain traffic to served ports.
    pub inbound: Option<Inbound>,
    /// The ports that the workload serves.
    pub served_port: Vec<String>,
    /// Whether IPv4 is captured.
    pub ipv4: Option<bool>,
    /// Whether IPv6 is captured; `None` means if loopback has it.
    pub ipv6: Option<bool>,
    /// Whether a process without privilege may bind ports below 1024.
    pub unprivileged_ports: bool,
    /// A `resolv.conf` that is to name the sidecar.
    pub resolv_conf: Option<PathBuf>,
    /// What it is to name.
    pub dns: Option<String>,
}

impl CaptureOptions {
    /// The configuration of `mode`, with what is left open taken from `host`.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn build(self, mode: CaptureMode, host: &dyn Accounts) -> Result<CaptureConfig, ConfigErrors> {
        let mut reader = Reader { host, mistakes: Vec::new() };
        let config = reader.config(&self, mode);
        if reader.mistakes.is_empty() {
            return Ok(config);
        }
        Err(ConfigErrors { path: PathBuf::new(), mistakes: reader.mistakes })
    }

    /// The flags that were given and mean something with `redirect` only.
    fn of_redirect(&self) -> impl Iterator<Item = &'static str> {
        let given = [
            ("--uid", !self.uid.is_empty()),
            ("--gid", !self.gid.is_empty()),
            ("--exclude-uid", !self.exclude_uid.is_empty()),
            ("--outbound-port", self.outbound_port.is_some()),
            ("--dns-port", self.dns_port.is_some()),
            ("--include-port", !self.include_port.is_empty()),
            ("--exclude-port", !self.exclude_port.is_empty()),
            ("--include-cidr", !self.include_cidr.is_empty()),
            ("--exclude-cidr", !self.exclude_cidr.is_empty()),
            ("--inbound", self.inbound.is_some()),
            ("--served-port", !self.served_port.is_empty()),
        ];
        given.into_iter().filter_map(|(flag, given)| given.then_some(flag))
    }

    /// The same for `vip`.
    fn of_vip(&self) -> impl Iterator<Item = &'static str> {
        let given = [("--resolv-conf", self.resolv_conf.is_some()), ("--dns", self.dns.is_some())];
        given.into_iter().filter_map(|(flag, given)| given.then_some(flag))
    }
}

/// Reads flags and collects what is wrong with them.
struct Reader<'a> {
    host: &'a dyn Accounts,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn config(&mut self, options: &CaptureOptions, mode: CaptureMode) -> CaptureConfig {
        let (ipv4, ipv6) =
            (options.ipv4.unwrap_or(true), options.ipv6.unwrap_or_else(|| self.host.has_ipv6()));
        if !ipv4 && !ipv6 {
            self.reject("--ipv4", None, "neither IPv4 nor IPv6 is left to capture");
        }
        if mode != CaptureMode::Redirect {
            for flag in options.of_redirect() {
                self.reject(flag, None, "only --capture redirect has rules to which this belongs");
            }
        }
        if mode != CaptureMode::Vip {
            for flag in options.of_vip() {
                let problem =
                    "only --capture vip changes resolv.conf; redirect captures the questions themselves";
                self.reject(flag, None, problem);
            }
        }
        let means = match mode {
            CaptureMode::Redirect => Means::Redirect(Box::new(self.redirect(options))),
            CaptureMode::Vip => Means::Vip(self.resolv_conf(options)),
            CaptureMode::Listen => Means::Listen,
        };
        CaptureConfig { ipv4, ipv6, unprivileged_ports: options.unprivileged_ports, means }
    }

    fn redirect(&mut self, options: &CaptureOptions) -> Redirect {
        let (served_tcp, served_udp) = self.served(&options.served_port);
        let redirect = Redirect {
            uids: self.sidecar_uids(options),
            gids: self.numbers("--gid", &options.gid, |host, name| host.gid(name)),
            exclude_uids: self.numbers("--exclude-uid", &options.exclude_uid, |host, name| host.uid(name)),
            resolver_uids: RESOLVERS.iter().filter_map(|name| self.host.uid(name)).collect(),
            outbound_port: self.port("--outbound-port", options.outbound_port.as_deref(), OUTBOUND_PORT),
            dns_port: self.port("--dns-port", options.dns_port.as_deref(), DNS_PORT),
            include_ports: self.ports("--include-port", &options.include_port),
            exclude_ports: self.ports("--exclude-port", &options.exclude_port),
            include: self.networks("--include-cidr", &options.include_cidr),
            exclude: self.networks("--exclude-cidr", &options.exclude_cidr),
            inbound: options.inbound.unwrap_or_default(),
            served_tcp,
            served_udp,
        };
        if redirect.outbound_port == redirect.dns_port {
            let value = redirect.dns_port.to_string();
            self.reject("--dns-port", Some(&value), "the outbound port is the same; they need one each");
        }
        if redirect.inbound == Inbound::Refuse && options.served_port.is_empty() {
            self.reject(
                "--served-port",
                None,
                "--inbound refuse needs the ports that are served in the mesh",
            );
        }
        redirect
    }

    fn sidecar_uids(&mut self, options: &CaptureOptions) -> Vec<u32> {
        if !options.uid.is_empty() || !options.gid.is_empty() {
            return self.numbers("--uid", &options.uid, |host, name| host.uid(name));
        }
        let usual = self.host.uid(USUAL_USER);
        if usual.is_none() {
            let problem = format!(
                "there is no user {USUAL_USER:?}: name the user that the sidecar runs as (or its group, with --gid), \
                 or what it sends would be led back to it"
            );
            self.reject("--uid", None, &problem);
        }
        usual.into_iter().collect()
    }

    fn resolv_conf(&mut self, options: &CaptureOptions) -> Option<ResolvConf> {
        let dns = options.dns.as_deref().and_then(|text| match text.parse::<IpAddr>() {
            Ok(ip) if !ip.is_unspecified() && !ip.is_multicast() => Some(ip),
            _ => {
                let problem =
                    "write the IP address, without a port, where the sidecar answers DNS on port 53";
                self.reject("--dns", Some(text), problem);
                None
            }
        });
        match (&options.resolv_conf, &options.dns) {
            (Some(_), None) => self.reject("--dns", None, "required with --resolv-conf"),
            (None, Some(_)) => self.reject("--resolv-conf", None, "required with --dns"),
            _ => {}
        }
        let path = options.resolv_conf.clone()?;
        let name = path.to_str().filter(|name| !name.contains(char::is_control));
        if !path.is_absolute() || name.is_none() {
            let problem = "write an absolute path, such as /etc/resolv.conf";
            self.reject("--resolv-conf", Some(&path.to_string_lossy()), problem);
        }
        Some(ResolvConf { path, dns: dns? })
    }

    fn numbers(
        &mut self,
        flag: &str,
        names: &[String],
        look_up: impl Fn(&dyn Accounts, &str) -> Option<u32>,
    ) -> Vec<u32> {
        let mut numbers = Vec::with_capacity(names.len());
        for name in names {
            // u32::MAX is no id: system calls take it for "unchanged"
            let number = name.parse().ok().filter(|&number| number != u32::MAX);
            match number.or_else(|| look_up(self.host, name)) {
                Some(number) => numbers.push(number),
                None => self.reject(
                    flag,
                    Some(name),
                    "nobody here has this name; write a number, or a name that exists",
                ),
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    fn port(&mut self, flag: &str, text: Option<&str>, usual: u16) -> u16 {
        let Some(text) = text else { return usual };
        let port = text.parse().ok().filter(|&port| port != 0);
        if port.is_none() {
            self.reject(flag, Some(text), "write a port from 1 to 65535");
        }
        port.unwrap_or(usual)
    }

    fn ports(&mut self, flag: &str, texts: &[String]) -> Ports {
        let mut ranges = Vec::with_capacity(texts.len());
        for text in texts {
            match Ports::range(text) {
                Ok(range) => ranges.push(range),
                Err(problem) => self.reject(flag, Some(text), &problem),
            }
        }
        ranges.into_iter().collect()
    }

    /// The served ports by protocol: `8080` and `8080/tcp`, `5353/udp`.
    fn served(&mut self, texts: &[String]) -> (Ports, Ports) {
        let (mut tcp, mut udp) = (Vec::new(), Vec::new());
        for text in texts {
            let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
            match (Ports::range(ports), protocol) {
                (Ok(range), "udp") => udp.push(range),
                // what else is spoken on a port is spoken over TCP
                (Ok(range), "tcp" | "http" | "grpc") => tcp.push(range),
                (Ok(_), _) => self.reject("--served-port", Some(text), "write PORT, PORT/tcp or PORT/udp"),
                (Err(problem), _) => self.reject("--served-port", Some(text), &problem),
            }
        }
        (tcp.into_iter().collect(), udp.into_iter().collect())
    }

    fn networks(&mut self, flag: &str, texts: &[String]) -> Networks {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for text in texts {
            let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            match network {
                Ok(IpNet::V4(network)) => v4.push(network.trunc()),
                Ok(IpNet::V6(network)) => v6.push(network.trunc()),
                Err(_) => {
                    self.reject(
                        flag,
                        Some(text),
                        "write a network such as 10.0.0.0/8 or fd00::/8, or an address",
                    );
                }
            }
        }
        // sets of nftables may not overlap
        Networks { v4: Ipv4Net::aggregate(&v4), v6: Ipv6Net::aggregate(&v6) }
    }

    fn reject(&mut self, flag: &str, value: Option<&str>, problem: &str) {
        let value = value.map(|value| value.chars().take(60).collect());
        self.mistakes.push(Mistake { key: flag.to_owned(), value, problem: problem.to_owned(), line: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host with a few names.
    struct Host {
        users: &'static [(&'static str, u32)],
        ipv6: bool,
    }

    impl Accounts for Host {
        fn uid(&self, name: &str) -> Option<u32> {
            self.users.iter().find(|(user, _)| *user == name).map(|(_, number)| *number)
        }

        fn gid(&self, name: &str) -> Option<u32> {
            self.uid(name)
        }

        fn has_ipv6(&self) -> bool {
            self.ipv6
        }
    }

    const HOST: Host =
        Host { users: &[("causeway", 991), ("systemd-resolve", 193), ("web", 1001)], ipv6: true };
    const BARE: Host = Host { users: &[], ipv6: false };

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    fn redirect(options: CaptureOptions, host: &Host) -> Redirect {
        match options.build(CaptureMode::Redirect, host).unwrap().means {
            Means::Redirect(redirect) => *redirect,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_said_captures_everything_but_the_sidecar() {
        let config = CaptureOptions::default().build(CaptureMode::Redirect, &HOST).unwrap();
        assert!(config.ipv4 && config.ipv6 && !config.unprivileged_ports);
        let redirect = redirect(CaptureOptions::default(), &HOST);
        assert_eq!((redirect.uids, redirect.resolver_uids), (vec![991], vec![193]));
        assert_eq!((redirect.outbound_port, redirect.dns_port), (15001, 15053));
        assert!(redirect.include_ports.is_empty() && redirect.include.is_empty());
        assert_eq!(redirect.inbound, Inbound::Pass);
        // a host without IPv6 is not asked to route it
        let options = CaptureOptions { uid: strings(&["7"]), ..CaptureOptions::default() };
        assert!(!options.build(CaptureMode::Redirect, &BARE).unwrap().ipv6);
    }

    #[test]
    fn names_numbers_and_networks_are_resolved_and_merged() {
        let options = CaptureOptions {
            uid: strings(&["web", "7", "1001"]),
            gid: strings(&["causeway"]),
            include_cidr: strings(&["10.0.0.0/9", "10.128.0.0/9", "10.1.2.3", "fd00::1"]),
            exclude_port: strings(&["22", "8000-8010"]),
            served_port: strings(&["8080", "9090/http", "53/udp"]),
            inbound: Some(Inbound::Refuse),
            ..CaptureOptions::default()
        };
        let redirect = redirect(options, &HOST);
        assert_eq!((redirect.uids, redirect.gids), (vec![7, 1001], vec![991]));
        assert_eq!(redirect.include.v4, ["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(redirect.include.v6, ["fd00::1/128".parse().unwrap()]);
        assert_eq!(redirect.exclude_ports.to_string(), "22, 8000-8010");
        assert_eq!(
            (redirect.served_tcp.to_string(), redirect.served_udp.to_string()),
            ("8080, 9090".into(), "53".into())
        );
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let options = CaptureOptions {
            uid: strings(&["nobody-here"]),
            exclude_uid: strings(&["4294967295"]),
            outbound_port: Some("0".into()),
            dns_port: Some("70000".into()),
            include_port: strings(&["80-70"]),
            include_cidr: strings(&["10.0.0.0/33"]),
            inbound: Some(Inbound::Refuse),
            ipv4: Some(false),
            ipv6: Some(false),
            resolv_conf: Some("/etc/resolv.conf".into()),
            ..CaptureOptions::default()
        };
        let errors = options.build(CaptureMode::Redirect, &HOST).unwrap_err();
        let told = errors.to_string();
        for part in [
            "--uid nobody-here: ",
            "--exclude-uid 4294967295: ",
            "--outbound-port 0: ",
            "--dns-port 70000: ",
            "--include-port 80-70: ",
            "--include-cidr 10.0.0.0/33: ",
            "--served-port: ",
            "--ipv4: ",
            "--resolv-conf: ",
        ] {
            assert!(told.contains(part), "{part} is not in {told}");
        }
        assert_eq!(errors.mistakes.len(), 9, "{told}");
    }

    #[test]
    fn a_sidecar_that_would_capture_itself_is_refused() {
        let errors = CaptureOptions::default().build(CaptureMode::Redirect, &BARE).unwrap_err();
        assert!(errors.to_string().contains("--uid: there is no user \"causeway\""), "{errors}");
        let options = CaptureOptions { dns_port: Some("15001".into()), ..CaptureOptions::default() };
        assert!(options.build(CaptureMode::Redirect, &HOST).is_err());
    }

    #[test]
    fn flags_of_another_mode_are_refused() {
        let options = CaptureOptions {
            uid: strings(&["web"]),
            inbound: Some(Inbound::Pass),
            ..CaptureOptions::default()
        };
        for mode in [CaptureMode::Vip, CaptureMode::Listen] {
            let errors = options.clone().build(mode, &HOST).unwrap_err();
            assert_eq!(errors.mistakes.len(), 2, "{errors}");
        }
    }

    #[test]
    fn resolv_conf_and_its_address_belong_together() {
        let options = |path: Option<&str>, dns: Option<&str>| CaptureOptions {
            resolv_conf: path.map(PathBuf::from),
            dns: dns.map(str::to_owned),
            ..CaptureOptions::default()
        };
        let config =
            options(Some("/etc/resolv.conf"), Some("127.0.0.1")).build(CaptureMode::Vip, &BARE).unwrap();
        let expected = ResolvConf { path: "/etc/resolv.conf".into(), dns: "127.0.0.1".parse().unwrap() };
        assert_eq!(config.means, Means::Vip(Some(expected)));
        for (path, dns) in [
            (Some("/etc/resolv.conf"), None),
            (None, Some("127.0.0.1")),
            (Some("etc/resolv.conf"), Some("127.0.0.1")),
            (Some("/etc/resolv.conf"), Some("127.0.0.1:53")),
            (Some("/etc/resolv.conf"), Some("0.0.0.0")),
        ] {
            assert!(options(path, dns).build(CaptureMode::Vip, &BARE).is_err(), "{path:?} {dns:?}");
        }
    }
}
