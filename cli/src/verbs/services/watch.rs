//! `causeway services --watch`: everything there is, then what changes, over connections that may end and gateways that may go.

mod known;
mod screen;

use crate::api::{Api, Request, Watch, ended};
use crate::failure::Failure;
use crate::output::{self, ListFormat, OutputClosed};
use anyhow::{Error, Result};
use causeway_gateway::admin::api::ServiceEvent;
use known::Known;
use screen::Screen;
use std::time::{Duration, Instant};

/// The pauses before another try: each is twice the one before.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Reasons for which another try, or another gateway, would be told the same.
const FINAL: [&str; 3] = ["unauthorized", "invalid-request", "no-such-path"];

/// Shows events until standard output is closed, or no gateway has told anything for `patience`.
pub(super) fn run(api: &Api, request: &Request, format: ListFormat, patience: Duration) -> Result<()> {
    let mut known = Known::new(screen::state_of(format));
    let mut screen = Screen::new(format);
    // one that cannot be reached at all is an error at once
    let mut watch = api.watch(request)?;
    let mut line = Line::new(patience);
    loop {
        let cause = show(&mut watch, &mut known, &mut screen, &mut line)?;
        watch = reconnect(api, request, &known, &mut line, cause)?;
    }
}

/// Shows what comes over a connection; returns why it ended.
fn show(watch: &mut Watch, known: &mut Known, screen: &mut Screen, line: &mut Line) -> Result<Error> {
    loop {
        let event = match watch.next::<ServiceEvent>() {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(ended("the gateway closed the connection; it may be stopping").into()),
            Err(error) => return Ok(error),
        };
        line.heard();
        let is_pause = matches!(event, ServiceEvent::Synced { .. } | ServiceEvent::Cursor { .. });
        for news in known.take(event) {
            screen.show(news)?;
        }
        if is_pause {
            screen.flush()?;
        }
    }
}

/// Connects again, to any gateway of the context, so that the next one goes on where `known` is.
fn reconnect(api: &Api, request: &Request, known: &Known, line: &mut Line, cause: Error) -> Result<Watch> {
    let mut last = cause;
    output::note(&format!("# the watch was cut off ({}); connecting again", reason(&last)));
    loop {
        let Some(pause) = line.pause() else { return Err(last) };
        std::thread::sleep(pause);
        api.try_another();
        match api.watch(&resumed(request, known)) {
            Ok(watch) => {
                output::note(&format!("# the watch goes on at {}", api.address()));
                return Ok(watch);
            }
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => last = error,
        }
    }
}

fn resumed(request: &Request, known: &Known) -> Request {
    let anew = (known.cursor().is_some() && !known.is_whole()).then_some("true");
    request.clone().query("resume", known.cursor()).query("anew", anew)
}

fn reason(error: &Error) -> String {
    match error.downcast_ref::<Failure>() {
        Some(failure) => failure.causes.first().unwrap_or(&failure.message).clone(),
        None => error.to_string(),
    }
}

fn is_final(error: &Error) -> bool {
    let reason = error.downcast_ref::<Failure>().map(|failure| failure.reason.as_str());
    error.is::<OutputClosed>() || reason.is_some_and(|reason| FINAL.contains(&reason))
}

/// When something was last heard, and how often it was tried to connect since.
struct Line {
    patience: Duration,
    heard: Instant,
    pause: Duration,
}

impl Line {
    fn new(patience: Duration) -> Self {
        Self { patience, heard: Instant::now(), pause: PAUSE.0 }
    }

    fn heard(&mut self) {
        *self = Self::new(self.patience);
    }

    /// How long to wait before the next try; nothing when it has lasted too long.
    fn pause(&mut self) -> Option<Duration> {
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE.1);
        (self.heard.elapsed() < self.patience).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_become_rarer_and_end() {
        let mut line = Line::new(Duration::from_secs(3600));
        let pauses: Vec<u128> =
            std::iter::from_fn(|| line.pause()).take(7).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
        line.heard();
        assert_eq!(line.pause(), Some(PAUSE.0));
        assert_eq!(Line::new(Duration::ZERO).pause(), None);
    }

    #[test]
    fn a_refusal_that_stays_ends_the_watch() {
        assert!(is_final(&Failure::new("unauthorized", "no").into()));
        assert!(!is_final(&Failure::new("behind", "wait").into()) && !is_final(&ended("cut").into()));
    }
}
