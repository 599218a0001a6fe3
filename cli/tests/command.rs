//! The binary as a shell sees it: exit codes, which stream says what, and that it needs nothing but its arguments.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::process::{Command, Output};

fn causeway(args: &[&str], contexts: &std::path::Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_causeway"))
        .args(args)
        .env_clear()
        .env("CAUSEWAY_CONTEXT_DIR", contexts)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn help_and_release_go_to_standard_output() {
    let dir = tempfile::tempdir().unwrap();
    let help = causeway(&["--help"], dir.path());
    assert!(help.status.success() && text(&help.stdout).contains("causeway demo"), "{help:?}");
    let version = causeway(&["--version"], dir.path());
    assert_eq!(text(&version.stdout), format!("causeway {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_exits_2_and_a_failure_1() {
    let dir = tempfile::tempdir().unwrap();
    for args in
        [&["exprot"][..], &["export"], &["export", "Payments"], &["token", "create", "--ttl", "soon"], &[]]
    {
        let output = causeway(args, dir.path());
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}: {output:?}");
    }
    let output = causeway(&["status"], dir.path());
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.starts_with("error: no cluster to talk to\ncause: there is no context in "), "{told}");
    assert!(told.contains("\ntry: "), "{told}");
    assert!(!told.contains("stack backtrace"), "{told}");
}

#[test]
fn every_mistake_of_a_configuration_is_told_and_nothing_starts() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    std::fs::write(&file, "cluster = \"IAD\"\nregoin = \"r\"\nzone = \"z\"\ndrain = \"soon\"\n").unwrap();
    let output = causeway(&["gateway", "--config", file.to_str().unwrap(), "--check"], dir.path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = text(&output.stderr);
    for part in ["cluster", "regoin", "drain"] {
        assert!(told.contains(&format!(": {part}")), "{part} is not in {told}");
    }
}

#[test]
fn a_check_prints_what_would_run() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "sidecar",
        "--check",
        "--state-dir",
        "/s",
        "--listen",
        "127.0.0.1:8080=orders.shop:80",
        "--drain",
        "1m",
    ];
    let output = causeway(&args, dir.path());
    assert!(output.status.success(), "{output:?}");
    let shown = text(&output.stdout);
    for line in ["drain = \"1m\"", "state-dir = \"/s\"", "[limits]", "[transport]"] {
        assert!(shown.contains(line), "{line} is not in {shown}");
    }
}

/// What can be asked of `init` and `cleanup` without privilege.
#[test]
fn capture_is_printed_and_its_mistakes_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let init = |words: &str| {
        let args: Vec<_> = ["sidecar", "init"].into_iter().chain(words.split(' ')).collect();
        causeway(&args, dir.path())
    };
    let output = init("--capture redirect --uid 1337 --ipv6 on --dns-port 5353 --print");
    assert!(output.status.success(), "{output:?}");
    let shown = text(&output.stdout);
    for part in ["meta skuid { 1337 } return", "redirect to :5353", "ip -6 route replace local"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    let shown = text(&init("--capture listen").stdout);
    assert!(shown.starts_with("nothing to install"), "{shown}");
    let output = init("--capture vip --uid 1337 --dns 127.0.0.1:53");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let told = text(&output.stderr);
    for part in ["--uid: ", "--dns 127.0.0.1:53: ", "--resolv-conf: "] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let output = causeway(&["sidecar", "cleanup", "--print"], dir.path());
    assert!(text(&output.stdout).contains("delete table inet causeway"), "{output:?}");
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    use std::process::Stdio;
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.args(["completions", "bash"]).env_clear().env("CAUSEWAY_CONTEXT_DIR", dir.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// Every example that is installed with the packages is a configuration that would run.
#[test]
fn every_example_configuration_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    let mut checked = Vec::new();
    for entry in std::fs::read_dir(&examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let process = if name.starts_with("sidecar") { "sidecar" } else { "gateway" };
        let output = causeway(&[process, "--check", "--config", path.to_str().unwrap()], dir.path());
        assert!(output.status.success(), "{}: {output:?}", path.display());
        checked.push(process);
    }
    checked.sort_unstable();
    checked.dedup();
    assert_eq!(checked, ["gateway", "sidecar"]);
}

/// Every example of documents is one that a gateway would take, and so is every example of a kind.
#[test]
fn every_example_document_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    let output = causeway(&["apply", "--check", "-f", examples.to_str().unwrap()], dir.path());
    assert!(output.status.success(), "{output:?}");
    assert!(!text(&output.stdout).starts_with("0 "), "{output:?}");
    for kind in ["service", "export", "link"] {
        let explained = text(&causeway(&["explain", kind], dir.path()).stdout);
        let (_, example) = explained.split_once("\nExample:\n").unwrap();
        let file = dir.path().join("example.yaml");
        std::fs::write(&file, example).unwrap();
        let output = causeway(&["apply", "--check", "-f", file.to_str().unwrap()], dir.path());
        assert!(output.status.success(), "{kind}: {output:?}");
    }
}

#[test]
fn every_mistake_of_documents_is_told_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mesh.yaml");
    let documents = "apiVersion: causeway/v1\nkind: Export\nmetadata: { name: a.b }\nspec:\n  to:\n    - PHX\n  too: 1\n\
                     ---\nkind: Lnik\nmetadata: { name: phx }\n";
    std::fs::write(&file, documents).unwrap();
    let output = causeway(&["apply", "--check", "-f", file.to_str().unwrap()], dir.path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = text(&output.stderr);
    for part in [
        "mesh.yaml:6: export/a.b: spec.to[0] \"PHX\"",
        "mesh.yaml:7: ",
        "did you mean \"to\"?",
        "mesh.yaml:9: ",
        "did you mean \"Link\"?",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    assert_eq!(told.matches("cause: ").count(), 4, "{told}");
    // `diff` has a code of its own for failures
    let output = causeway(&["diff", "-f", file.to_str().unwrap()], dir.path());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
