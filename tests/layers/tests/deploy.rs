//! The files under `deploy/`: the examples are TOML, and the units are hardened.

use causeway_test_layers::Unit;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const UNITS: [&str; 2] = ["causeway-gateway.service", "causeway-sidecar@.service"];

/// What every unit sets, to exactly this.
const HARDENING: &[(&str, &str)] = &[
    ("CapabilityBoundingSet", ""),
    ("AmbientCapabilities", ""),
    ("LockPersonality", "yes"),
    ("MemoryDenyWriteExecute", "yes"),
    ("NoNewPrivileges", "yes"),
    ("PrivateDevices", "yes"),
    ("PrivateTmp", "yes"),
    ("ProtectClock", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectHome", "yes"),
    ("ProtectHostname", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("ProtectProc", "invisible"),
    ("ProtectSystem", "strict"),
    ("RemoveIPC", "yes"),
    ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("SystemCallArchitectures", "native"),
    ("UMask", "0077"),
    ("Restart", "on-failure"),
];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

fn read(path: &str) -> std::io::Result<String> {
    fs::read_to_string(deploy().join(path))
}

#[test]
fn every_example_is_toml() {
    let mut names = Vec::new();
    for entry in fs::read_dir(deploy().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        // documents of `causeway apply` are read by the command's own tests
        if path.extension().is_some_and(|extension| extension == "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let table = text.parse::<toml::Table>().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(!table.is_empty(), "{} says nothing", path.display());
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    assert!(["gateway.toml", "sidecar.toml"].iter().all(|name| names.iter().any(|n| n == name)), "{names:?}");
}

#[test]
fn units_are_hardened() {
    for name in UNITS {
        let unit = Unit::parse(&read(&format!("systemd/{name}")).unwrap()).unwrap();
        for (key, value) in HARDENING {
            assert_eq!(unit.values("Service", key), [*value], "{key} of {name}");
        }
        let calls = unit.values("Service", "SystemCallFilter");
        assert_eq!(calls.first().map(String::as_str), Some("@system-service"), "{name}");
        for key in ["StateDirectory", "RuntimeDirectory", "LimitNOFILE", "TimeoutStopSec", "ExecStart"] {
            assert_eq!(unit.values("Service", key).len(), 1, "{key} of {name}");
        }
    }
}

/// A user or group in a unit is one that sysusers makes, and nothing runs as root.
#[test]
fn users_and_groups_exist_and_are_not_root() {
    let made = read("sysusers.d/causeway.conf").unwrap();
    let made: Vec<&str> = made.lines().filter(|line| !line.starts_with('#')).collect();
    for name in UNITS {
        let unit = Unit::parse(&read(&format!("systemd/{name}")).unwrap()).unwrap();
        let dynamic = unit.values("Service", "DynamicUser") == ["yes"];
        assert!(
            dynamic != (unit.values("Service", "User").len() == 1),
            "{name} runs as one user or a dynamic one"
        );
        for key in ["User", "Group", "SupplementaryGroups"] {
            for value in unit.values("Service", key) {
                let known = made.iter().any(|line| line.split_whitespace().nth(1) == Some(value));
                assert!(value != "root" && known, "{key}={value} of {name} is not in sysusers.d");
            }
        }
    }
}

/// The example's drain must end before systemd loses patience.
#[test]
fn the_drain_of_the_examples_fits_into_the_stop_timeout() {
    for (name, example) in UNITS.into_iter().zip(["gateway.toml", "sidecar.toml"]) {
        let unit = Unit::parse(&read(&format!("systemd/{name}")).unwrap()).unwrap();
        let example: toml::Table = read(&format!("examples/{example}")).unwrap().parse().unwrap();
        let seconds = |text: &str| text.trim_end_matches('s').parse::<u32>().unwrap();
        let drain = seconds(example["drain"].as_str().unwrap());
        assert!(drain < seconds(&unit.values("Service", "TimeoutStopSec").concat()), "{name}");
    }
}

/// systemd's own opinion, where it is installed. It wants to see the binary, so one that exists stands in for it.
#[test]
fn systemd_finds_nothing_to_say() {
    let folder = tempfile::tempdir().unwrap();
    for name in UNITS {
        let text = read(&format!("systemd/{name}")).unwrap();
        assert!(text.contains("/usr/bin/causeway "), "{name} starts another binary");
        let path = folder.path().join(name.replace("@.", "@web."));
        fs::write(&path, text.replace("/usr/bin/causeway ", "/bin/true ")).unwrap();
        let Ok(output) = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output()
        else {
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains(name.split(['@', '.']).next().unwrap()), "{said}");
    }
}
