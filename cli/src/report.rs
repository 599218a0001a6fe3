//! How an error is told: `error:`, `cause:` and `try:` lines on standard error, and the exit code.

use crate::failure::Failure;
use crate::output::{self, OutputClosed};
use anyhow::Error;
use std::process::ExitCode;

/// Tells the error and says with which code to exit: 2 if the command line was wrong, else 1.
pub(crate) fn report(error: &Error) -> ExitCode {
    let (text, code) = verdict(error);
    output::note(&text);
    ExitCode::from(code)
}

/// What to write to standard error, and the exit code.
fn verdict(error: &Error) -> (String, u8) {
    if error.is::<OutputClosed>() {
        // the reader had enough, as `head` does
        return (String::new(), 0);
    }
    match error.downcast_ref::<clap::Error>() {
        Some(usage) => (usage.to_string(), 2),
        None => (describe(error), 1),
    }
}

/// The lines about `error`: the outermost message, every cause that says something new, and what to try.
fn describe(error: &Error) -> String {
    let (mut lines, mut tries) = (Vec::new(), Vec::new());
    let mut said = String::new();
    for link in error.chain() {
        let text = link.to_string();
        // many errors repeat their source's text in their own
        if !said.contains(&text) {
            lines.push(line(if lines.is_empty() { "error" } else { "cause" }, &text));
            said.push_str(&text);
        }
        if let Some(failure) = link.downcast_ref::<Failure>() {
            lines.extend(failure.causes.iter().map(|cause| line("cause", cause)));
            lines.push(line("reason", &failure.reason));
            tries.extend(failure.fixes.iter().map(|fix| line("try", fix)));
        }
    }
    lines.append(&mut tries);
    lines.join("\n")
}

/// `label: text`, with further lines of the text below its first.
fn line(label: &str, text: &str) -> String {
    let indent = format!("\n{:width$}", "", width = label.len() + 2);
    format!("{label}: {}", output::printable(text.trim_end()).replace('\n', &indent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_failure_says_why_and_what_to_try() {
        let failure =
            Failure::new("refused", "cannot reach https://h:1").cause("nothing listens").fix("start it");
        let text = describe(&Error::new(failure).context("the link was not made"));
        let expected = "error: the link was not made\ncause: cannot reach https://h:1\ncause: nothing listens\n\
                        reason: refused\ntry: start it";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_cause_that_was_said_is_not_repeated() {
        let source = std::io::Error::other("disk on fire");
        let text = describe(&Error::new(source).context("cannot write x: disk on fire"));
        assert_eq!(text, "error: cannot write x: disk on fire");
    }

    #[test]
    fn several_lines_stay_together_and_nothing_reaches_the_terminal_raw() {
        assert_eq!(describe(&anyhow!("one\ntwo\u{1b}[31m")), "error: one\n       two?[31m");
    }

    #[test]
    fn exit_codes() {
        assert_eq!(verdict(&Error::new(OutputClosed)), (String::new(), 0));
        assert_eq!(verdict(&anyhow!("x")), ("error: x".into(), 1));
        let usage = clap::Command::new("causeway").error(clap::error::ErrorKind::ArgumentConflict, "no");
        let (text, code) = verdict(&usage.into());
        assert!(code == 2 && text.starts_with("error: no"), "{text}");
    }
}
