//! What is to be installed for a configuration, as text: a script for `nft`, and commands. Pure; carrying it out is
//! [`crate::install()`]'s.

mod routes;
mod rules;

pub use routes::Route;
pub use rules::TABLE;

use crate::config::{CaptureConfig, Means, ResolvConf};
use std::fmt;

/// Where the kernel keeps the first port that needs no privilege.
pub const UNPRIVILEGED_PORTS: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// What is to be installed. Each part can be carried out again without harm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// For `nft -f -`, one transaction; empty if there are no rules.
    pub nft_script: String,
    /// Commands to run, each a program and its arguments.
    pub commands: Vec<Vec<String>>,
    /// Whether ports below 1024 are to be free for all.
    pub unprivileged_ports: bool,
    /// The `resolv.conf` that is to name the sidecar.
    pub resolv_conf: Option<ResolvConf>,
    /// The local routes that the commands make.
    pub routes: Vec<Route>,
    /// The comments by which the script's rules are found again.
    pub marks: Vec<String>,
}

impl Plan {
    /// What `config` needs.
    pub fn new(config: &CaptureConfig) -> Self {
        let mut plan = Self { unprivileged_ports: config.unprivileged_ports, ..Self::default() };
        match &config.means {
            Means::Redirect(redirect) => {
                let rules = rules::Rules::new(config, redirect);
                (plan.nft_script, plan.marks) = (rules.script(), rules.marks());
                plan.routes = routes::of(config);
            }
            Means::Vip(resolv_conf) => {
                plan.resolv_conf.clone_from(resolv_conf);
                plan.routes = routes::of(config);
            }
            Means::Listen => {}
        }
        plan.commands = plan.routes.iter().map(Route::addition).collect();
        plan
    }

    /// What takes away whatever any plan has installed, but for what [`crate::install()`] has noted down to be restored.
    pub fn removal() -> Self {
        let commands = Route::ALL.iter().map(Route::removal).collect();
        Self { nft_script: rules::removal(), commands, ..Self::default() }
    }

    /// Whether there is nothing to install.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// As a script for a shell that does the same, but notes nothing down.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.nft_script.is_empty() {
            write!(f, "nft -f - <<'END'\n{}END\n", self.nft_script)?;
        }
        for command in &self.commands {
            writeln!(f, "{}", command.join(" "))?;
        }
        if self.unprivileged_ports {
            writeln!(f, "echo 0 > {UNPRIVILEGED_PORTS}")?;
        }
        if let Some(ResolvConf { path, dns }) = &self.resolv_conf {
            let path = path.display();
            writeln!(f, "# {path} is kept as {path}.causeway, and gets this name server:")?;
            writeln!(f, "#   nameserver {dns}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
