//! A process that is killed while it writes.

use super::mesh::{Mesh, init, port, set_port};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

const DIR: &str = "CAUSEWAY_STORE_CRASH_DIR";

/// Not a test of its own: the process that is killed. It prints each change that was acknowledged.
#[tokio::test]
#[ignore = "run by what_was_acknowledged_survives_a_kill, as a process of its own"]
async fn writer() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let mesh = Arc::new(Mesh::default());
    let registry = mesh.open(&dir, 1).await;
    if !registry.is_initialised() {
        registry.initialise(init()).await.unwrap();
    }
    let mut next = port(&registry).unwrap();
    loop {
        next += 1;
        registry.propose(set_port(next)).await.unwrap();
        println!("acknowledged {next}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..4 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::crash::writer", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let numbers =
            lines.filter_map(|line| line.unwrap().strip_prefix("acknowledged ")?.parse::<u16>().ok());
        let mut taken = 0;
        for number in numbers {
            acknowledged = number;
            taken += 1;
            if taken == 25 + round {
                writer.kill().unwrap();
            }
        }
        writer.wait().unwrap();
        assert!(taken >= 25 + round, "the writer ended after {taken} changes");

        let mesh = Arc::new(Mesh::default());
        let registry = mesh.open(dir.path(), 1).await;
        let found = port(&registry).unwrap();
        // the change that was being made when it was killed may have been made
        assert!((acknowledged..=acknowledged + 1).contains(&found), "{found} after {acknowledged}");
        mesh.stop(1).await;
    }
}
