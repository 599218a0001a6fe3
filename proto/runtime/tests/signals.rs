//! Signals end whole processes, so each test runs this test binary again as a child, with the one ignored test as its body.

#![expect(clippy::unwrap_used, reason = "a test")]

use causeway_runtime::shutdown_signal;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

const HANGS: &str = "CAUSEWAY_TEST_HANGS";

struct Process {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Process {
    fn start(hangs: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child_body", "--ignored", "--nocapture"]).stdout(Stdio::piped());
        if hangs {
            command.env(HANGS, "1");
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn wait_for(&mut self, word: &str) {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert_ne!(
                self.lines.read_line(&mut line).unwrap(),
                0,
                "the child ended before it said {word:?}"
            );
        }
    }

    fn kill(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn end(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

#[test]
#[ignore = "the body of the other tests' child process"]
fn child_body() {
    let first = shutdown_signal().unwrap();
    println!("listening");
    let runtime = causeway_runtime::control_runtime(1).unwrap();
    println!("got {}", runtime.block_on(first));
    if std::env::var_os(HANGS).is_some() {
        drop(runtime);
        loop {
            std::thread::park();
        }
    }
}

#[test]
fn the_first_signal_lets_the_process_finish() {
    for (signal, said) in [(Signal::TERM, "got SIGTERM"), (Signal::INT, "got SIGINT")] {
        let mut process = Process::start(false);
        process.wait_for("listening");
        process.kill(signal);
        process.wait_for(said);
        assert!(process.end().success());
    }
}

#[test]
fn a_second_signal_ends_a_hung_process() {
    let mut process = Process::start(true);
    process.wait_for("listening");
    process.kill(Signal::TERM);
    process.wait_for("got SIGTERM");
    process.kill(Signal::INT);
    assert_eq!(process.end().code(), Some(130));
}
