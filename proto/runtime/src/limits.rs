//! Limits of the process that the operating system sets. Owns the raising of the one on descriptors; a mesh process holds
//! one for each connection of its application.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// Raises the soft limit on open descriptors to the hard limit and returns both; `u64::MAX` stands for no limit.
///
/// # Errors
/// The system refused; the limits are then as they were.
pub fn raise_nofile() -> io::Result<(u64, u64)> {
    let before = getrlimit(Resource::Nofile);
    if before.current != before.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum })?;
    }
    let after = getrlimit(Resource::Nofile);
    Ok((after.current.unwrap_or(u64::MAX), after.maximum.unwrap_or(u64::MAX)))
}

/// How many descriptors this process may have open; `u64::MAX` stands for no limit.
pub fn nofile() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_limit() {
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        assert_eq!(raise_nofile().unwrap(), (hard, hard));
        assert_eq!(raise_nofile().unwrap(), (hard, hard));
        assert_eq!(nofile(), hard);
    }
}
