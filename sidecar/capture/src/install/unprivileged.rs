//! Ports below 1024 for processes without privilege, so that a sidecar may listen on port 80 of a virtual address. The setting
//! is of the network namespace; it counts for IPv6, too.

use super::record::{Record, failed};
use crate::error::CaptureError;
use crate::plan::UNPRIVILEGED_PORTS;
use std::fs;
use std::path::Path;

/// What it is called when it is told of.
pub(super) const NAME: &str = "net.ipv4.ip_unprivileged_port_start = 0";
const OPEN: &str = "0";

/// Frees every port, and remembers what was before.
pub(super) fn open(record: &mut Record) -> Result<(), CaptureError> {
    let before = read()?;
    // what is remembered of an earlier time, if anything, goes on to hold
    if before == OPEN {
        return Ok(());
    }
    record.keep_port_start(&before)?;
    write(OPEN)
}

/// Restores what was before, unless somebody else has changed it since. Tells whether there was anything to restore.
pub(super) fn close(record: &Record) -> Result<bool, CaptureError> {
    match record.port_start() {
        Some(before) if is_open()? => write(before).map(|()| true),
        _ => Ok(false),
    }
}

pub(super) fn is_open() -> Result<bool, CaptureError> {
    Ok(read()? == OPEN)
}

fn read() -> Result<String, CaptureError> {
    let path = Path::new(UNPRIVILEGED_PORTS);
    fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(failed("read", path))
}

fn write(value: &str) -> Result<(), CaptureError> {
    let error = |source| CaptureError::Sysctl { path: UNPRIVILEGED_PORTS, value: value.to_owned(), source };
    fs::write(UNPRIVILEGED_PORTS, value).map_err(error)
}
