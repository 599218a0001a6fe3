//! An answer that goes on: one JSON object a line.

use crate::failure::Failure;
use anyhow::Result;
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Read};
use ureq::http::Response;
use ureq::{Body, BodyReader};

/// The longest line, in bytes: a service with a thousand endpoints fits.
const MAX_LINE: u64 = 4 << 20;

/// The lines of an endless answer.
pub(crate) struct Watch {
    body: BufReader<BodyReader<'static>>,
}

impl Watch {
    pub(super) fn new(response: Response<Body>) -> Self {
        Self { body: BufReader::new(response.into_body().into_reader()) }
    }

    /// The next object; `None` when the gateway ended the answer. Blocks until there is one.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        loop {
            let mut line = Vec::new();
            let read = self.body.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
            read.map_err(|error| ended(error.to_string()))?;
            if line.is_empty() {
                return Ok(None);
            }
            // empty lines keep a quiet connection alive
            if line.iter().any(|byte| !byte.is_ascii_whitespace()) {
                return match serde_json::from_slice(&line) {
                    Ok(event) => Ok(Some(event)),
                    Err(error) => Err(ended(format!("a line of it cannot be read: {error}")).into()),
                };
            }
        }
    }
}

/// That a watch is over.
pub(crate) fn ended(cause: impl Into<String>) -> Failure {
    Failure::new("watch_ended", "the watch ended")
        .cause(cause)
        .fix("run it again: it begins with everything there is")
}
