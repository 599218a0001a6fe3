//! Carries out plans on this host, or in the network namespace of the calling thread: installs, removes, and looks at what is
//! there. What to do is the plan's; this is the part that needs privilege.

mod record;
mod resolv_conf;
mod tools;
mod unprivileged;

use crate::config::CaptureConfig;
use crate::error::CaptureError;
use crate::plan::{Plan, Route, TABLE};
use record::Record;
use rustix::thread::{CapabilitySet, capabilities};
use tools::{Answer, run};

/// One thing that a plan installs, and whether it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub what: String,
    /// Whether it is installed.
    pub installed: bool,
}

/// Installs what `config` needs; what is there already is replaced. Returns what was installed, a line each.
///
/// # Errors
/// The caller may not, a tool or a feature of the kernel is missing, or a file cannot be changed. What was done until then stays;
/// [`remove`] takes it away.
pub fn install(config: &CaptureConfig) -> Result<Vec<String>, CaptureError> {
    let plan = Plan::new(config);
    let mut done = Vec::new();
    if !plan.nft_script.is_empty() || !plan.commands.is_empty() {
        may_change_the_network()?;
    }
    if !plan.nft_script.is_empty() {
        tools::find("nft")?;
    }
    if !plan.commands.is_empty() {
        tools::find("ip")?;
    }
    // routes first: with rules and without them, virtual addresses would be unreachable for a moment
    for (command, route) in plan.commands.iter().zip(&plan.routes) {
        run(command, None)?.or_failed(command)?;
        done.push(route_name(route));
    }
    if !plan.nft_script.is_empty() {
        tools::nft(&plan.nft_script)?;
        done.push(table_name());
    }
    if plan.unprivileged_ports || plan.resolv_conf.is_some() {
        let mut record = Record::load()?;
        if plan.unprivileged_ports {
            unprivileged::open(&mut record)?;
            done.push(unprivileged::NAME.to_owned());
        }
        if let Some(conf) = &plan.resolv_conf {
            resolv_conf::point(conf, &mut record)?;
            done.push(resolv_conf::name(conf));
        }
    }
    Ok(done)
}

/// Removes what [`install`] has installed, with whatever configuration. Returns what was removed, a line each; nothing if there was
/// nothing.
///
/// # Errors
/// The caller may not, or the system refuses. It goes as far as it gets, and can be called again.
pub fn remove() -> Result<Vec<String>, CaptureError> {
    may_change_the_network()?;
    let mut done = Vec::new();
    // a host without nft has no rules of ours, and one without ip no routes
    if tools::find("nft").is_ok() && table()?.is_some() {
        tools::nft(&Plan::removal().nft_script)?;
        done.push(table_name());
    }
    if tools::find("ip").is_ok() {
        for route in Route::ALL {
            let command = route.removal();
            let answer = run(&command, None)?;
            if answer.ok {
                done.push(route_name(&route));
            } else if !absent(&answer.stderr) {
                answer.or_failed(&command)?;
            }
        }
    }
    let record = Record::load()?;
    if unprivileged::close(&record)? {
        done.push(unprivileged::NAME.to_owned());
    }
    for path in record.resolv_confs() {
        if resolv_conf::restore(path)? {
            done.push(path.display().to_string());
        }
    }
    record.delete()?;
    Ok(done)
}

/// Everything that `config` needs, and whether it is there. Changes nothing.
///
/// # Errors
/// The caller may not look, or a tool is missing.
pub fn inspect(config: &CaptureConfig) -> Result<Vec<Finding>, CaptureError> {
    let plan = Plan::new(config);
    let mut findings = Vec::new();
    let mut found = |what: String, installed| findings.push(Finding { what, installed });
    for route in &plan.routes {
        let command = route.question();
        let answer = run(&command, None)?;
        found(route_name(route), answer.ok && !answer.stdout.trim().is_empty());
    }
    if !plan.nft_script.is_empty() {
        may_change_the_network()?;
        let table = table()?.unwrap_or_default();
        for mark in &plan.marks {
            found(format!("rule: {mark}"), table.contains(&format!("comment \"{mark}\"")));
        }
    }
    if plan.unprivileged_ports {
        found(unprivileged::NAME.to_owned(), unprivileged::is_open()?);
    }
    if let Some(conf) = &plan.resolv_conf {
        found(resolv_conf::name(conf), resolv_conf::points(conf)?);
    }
    Ok(findings)
}

fn table_name() -> String {
    format!("nftables table {TABLE}")
}

fn route_name(route: &Route) -> String {
    format!("local route {}", route.network())
}

/// The listing of our table; `None` if there is none.
fn table() -> Result<Option<String>, CaptureError> {
    let mut command = vec!["nft".to_owned(), "list".to_owned(), "table".to_owned()];
    command.extend(TABLE.split(' ').map(str::to_owned));
    match run(&command, None)? {
        Answer { ok: true, stdout, .. } => Ok(Some(stdout)),
        answer if absent(&answer.stderr) => Ok(None),
        answer => Err(tools::nft_error(&answer.stderr)),
    }
}

/// Whether a program says that what it was to remove or show is not there.
fn absent(stderr: &str) -> bool {
    // a kernel without IPv6 has no such routes either
    let said = ["No such file or directory", "No such process", "Operation not supported"];
    said.iter().any(|said| stderr.contains(said))
}

/// The tools say the same, but each in its own words, and some only half way through.
fn may_change_the_network() -> Result<(), CaptureError> {
    let mine = capabilities(None).map(|sets| sets.effective).unwrap_or(CapabilitySet::empty());
    if mine.contains(CapabilitySet::NET_ADMIN) {
        return Ok(());
    }
    Err(CaptureError::NotPermitted { said: String::new() })
}
