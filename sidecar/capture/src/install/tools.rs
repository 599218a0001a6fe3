//! The programs that change the network: finding them, running them, and what they mean when they fail.

use crate::error::CaptureError;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Where system programs are, even if the caller's PATH leaves them out.
const SYSTEM: [&str; 2] = ["/usr/sbin", "/sbin"];

/// What a program answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) ok: bool,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Answer {
    /// The error that `command` failed, if it did.
    pub(super) fn or_failed(self, command: &[String]) -> Result<Self, CaptureError> {
        if self.ok {
            return Ok(self);
        }
        let said = self.stderr.trim().to_owned();
        if said.contains("Operation not permitted") {
            return Err(CaptureError::NotPermitted { said });
        }
        Err(CaptureError::Failed { command: command.join(" "), said })
    }
}

/// Where program `tool` is.
///
/// # Errors
/// It is nowhere.
pub(super) fn find(tool: &str) -> Result<PathBuf, CaptureError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SYSTEM.iter().map(PathBuf::from));
    let mut candidates = folders.filter(|folder| folder.is_absolute()).map(|folder| folder.join(tool));
    candidates.find(|file| file.is_file()).ok_or_else(|| {
        let package = if tool == "nft" { "nftables" } else { "iproute2" };
        CaptureError::ToolMissing { tool: tool.to_owned(), package }
    })
}

/// Runs `command` with `input` and waits for its end.
///
/// # Errors
/// It is not there or could not be run. That it failed is part of the answer.
pub(super) fn run(command: &[String], input: Option<&str>) -> Result<Answer, CaptureError> {
    let Some((tool, arguments)) = command.split_first() else { return Ok(Answer::default()) };
    let failed = |source| CaptureError::NotRun { command: command.join(" "), source };
    let mut child = Command::new(find(tool)?)
        .args(arguments)
        // what they say is read below
        .env("LC_ALL", "C")
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        match stdin.write_all(input.as_bytes()) {
            Ok(()) => {}
            // it has given up and says why
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let output = child.wait_with_output().map_err(failed)?;
    Ok(Answer {
        ok: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a script of nftables, as one transaction.
///
/// # Errors
/// What `nft` says, as an operator needs it.
pub(super) fn nft(script: &str) -> Result<(), CaptureError> {
    let command = ["nft", "-f", "-"].map(str::to_owned);
    let answer = run(&command, Some(script))?;
    if answer.ok { Ok(()) } else { Err(nft_error(&answer.stderr)) }
}

/// What a failure of `nft` means. It names the line that the kernel refused, but not what the kernel lacks.
pub(super) fn nft_error(stderr: &str) -> CaptureError {
    let said = stderr.trim().to_owned();
    if said.contains("Operation not permitted") {
        return CaptureError::NotPermitted { said };
    }
    let lacking =
        ["No such file or directory", "Operation not supported", "Protocol not supported", "Protocol error"];
    if !lacking.iter().any(|words| said.contains(words)) {
        return CaptureError::Failed { command: "nft -f -".to_owned(), said };
    }
    // the first that fits: a refused rule is quoted, and so are the rules around it in some releases
    let features = [
        ("tproxy", "TPROXY", "nft_tproxy"),
        ("redirect to", "REDIRECT", "nft_redir"),
        ("type nat", "NAT", "nft_chain_nat"),
        ("reject", "REJECT", "nft_reject_inet"),
        ("ct state", "connection tracking", "nft_ct"),
    ];
    let found = features.iter().find(|(words, ..)| said.contains(words));
    let (feature, module) =
        found.map_or(("nftables", "nf_tables"), |&(_, feature, module)| (feature, module));
    CaptureError::KernelLacks { feature, module, said }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &str) -> Vec<String> {
        words.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let error = run(&line("nft-that-is-not-there x"), None).unwrap_err();
        assert_eq!(error.reason(), "tool_missing");
        let error = CaptureError::ToolMissing { tool: "nft".into(), package: "nftables" };
        assert!(error.to_string().contains("package nftables"), "{error}");
    }

    #[test]
    fn a_program_gets_its_input_and_gives_its_answer() {
        let answer = run(&line("cat"), Some("hello")).unwrap();
        assert!(answer.ok && answer.stdout == "hello", "{answer:?}");
        let failed = run(&line("cat /nowhere/at/all"), None).unwrap();
        let error = failed.or_failed(&line("cat /nowhere/at/all")).unwrap_err();
        assert!(error.to_string().starts_with("`cat /nowhere/at/all` failed: "), "{error}");
        // one that does not read: the pipe breaks, or not, and neither is an error
        assert!(run(&line("true"), Some(&"x".repeat(1 << 20))).unwrap().ok);
    }

    #[test]
    fn what_nft_says_is_translated() {
        let rule = |rule: &str, why: &str| {
            format!("/dev/stdin:25:3-99: Error: Could not process rule: {why}\n\t\t{rule}\n\t\t^^^^^^^^^\n")
        };
        let absent = "No such file or directory";
        for (said, reason, part) in [
            (
                rule("iif \"lo\" meta l4proto udp tproxy ip to 127.0.0.1:15001 accept", absent),
                "kernel_lacks",
                "nft_tproxy",
            ),
            (rule("meta l4proto tcp redirect to :15001", absent), "kernel_lacks", "nft_redir"),
            (
                rule("type nat hook output priority -100; policy accept;", absent),
                "kernel_lacks",
                "nft_chain_nat",
            ),
            (
                rule("type nat hook output priority -100;", "Operation not supported"),
                "kernel_lacks",
                "modprobe",
            ),
            (
                "netlink: Error: cache initialization failed: Operation not permitted\n".to_owned(),
                "not_permitted",
                "CAP_NET_ADMIN",
            ),
            (
                "Unable to initialize Netlink socket: Protocol not supported\n".to_owned(),
                "kernel_lacks",
                "nf_tables",
            ),
            (
                "/dev/stdin:3:1-2: Error: syntax error, unexpected newline\n".to_owned(),
                "command_failed",
                "syntax error",
            ),
        ] {
            let error = nft_error(&said);
            assert_eq!(error.reason(), reason, "{said}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
