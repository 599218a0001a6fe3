//! Waiting for a condition, with a deadline and with what was seen instead.

use anyhow::{Result, bail};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How long to wait between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Why a condition does not hold.
#[derive(Debug)]
pub(super) enum Not {
    /// It may hold soon; this was seen.
    Yet(String),
    /// It cannot hold any more.
    Ever(String),
}

impl From<String> for Not {
    fn from(seen: String) -> Self {
        Self::Yet(seen)
    }
}

impl From<anyhow::Error> for Not {
    fn from(error: anyhow::Error) -> Self {
        Self::Yet(format!("{error:#}"))
    }
}

/// Looks until it holds; returns what was found and how long it took.
///
/// # Errors
/// Not within `limit`, or it cannot hold any more: what was to hold and what was seen instead.
pub(super) async fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T, Not>,
) -> Result<(T, Duration)> {
    let start = Instant::now();
    let deadline = start + limit;
    let mut seen = "nothing was seen".to_owned();
    loop {
        match timeout_at(deadline, look()).await {
            Ok(Ok(found)) => return Ok((found, start.elapsed())),
            Ok(Err(Not::Yet(instead))) => seen = instead,
            Ok(Err(Not::Ever(why))) => bail!("{what}: no: {why}"),
            Err(_) => bail!("{what}: not within {limit:?}; last seen: {seen}"),
        }
        sleep(PAUSE).await;
        if Instant::now() >= deadline {
            bail!("{what}: not within {limit:?}; last seen: {seen}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_returns_what_was_found() {
        let mut looks = 0;
        let found = until("three", Duration::from_secs(10), async || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(Not::Yet(format!("{looks}"))) }
        });
        assert_eq!(found.await.unwrap().0, 3);
    }

    #[tokio::test]
    async fn it_says_what_was_seen_instead() {
        let limit = Duration::from_millis(50);
        let late = until::<()>("rain", limit, async || Err(Not::Yet("sun".into()))).await.unwrap_err();
        assert_eq!(late.to_string(), "rain: not within 50ms; last seen: sun");
        let hung = until::<()>("rain", limit, std::future::pending).await.unwrap_err();
        assert_eq!(hung.to_string(), "rain: not within 50ms; last seen: nothing was seen");
        let never = until::<()>("rain", limit, async || Err(Not::Ever("no sky".into()))).await.unwrap_err();
        assert_eq!(never.to_string(), "rain: no: no sky");
    }
}
