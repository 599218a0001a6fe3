//! What the admin API shows by answering: reachability, certificate, clock, release.

use super::finding::Finding;
use crate::api::{Api, Request};
use anyhow::Result;
use causeway_gateway::admin::api::{Check, Status};
use std::time::{Duration, Instant, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// The release of this command.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// What the gateway's first answer shows, and its status, if it gave one.
pub(super) fn look(api: &Api) -> (Vec<Check>, Option<Status>) {
    let begun = Instant::now();
    match ask(api) {
        Ok((status, date)) => {
            let now = SystemTime::now();
            let seen = format!("{} answered in {} ms", api.access().file.admin, begun.elapsed().as_millis());
            let checks = vec![
                Finding::new("admin API").ok(seen),
                // it was verified before a byte of the answer was believed
                Finding::new("admin certificate")
                    .ok("leads to the root that the context trusts, and is valid now"),
                clock(date.as_deref(), now),
                release(&status.release),
            ];
            (checks, Some(status))
        }
        Err(error) => (vec![Finding::new("admin API").failed_by(&error)], None),
    }
}

/// The status, and the `Date` of the answer.
fn ask(api: &Api) -> Result<(Status, Option<String>)> {
    let response = api.respond(&Request::get("/v1/status"))?;
    let date = response.headers().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned);
    Ok((api.read(response)?, date))
}

/// How far apart the clocks are. Certificates have five minutes of slack.
fn clock(date: Option<&str>, now: SystemTime) -> Check {
    let finding = Finding::new("clock difference");
    let parsed = date.and_then(|date| OffsetDateTime::parse(date, &Rfc2822).ok());
    let Some(theirs) = parsed.map(SystemTime::from) else {
        let seen = format!("the gateway's answer has no usable date: {}", date.unwrap_or("none"));
        return finding.warning(
            seen,
            "a proxy may have removed it",
            "compare `date -u` here and on the gateway",
        );
    };
    let (ahead, gap) = match now.duration_since(theirs) {
        Ok(gap) => ("ahead of", gap),
        Err(error) => ("behind", error.duration()),
    };
    let seen = format!("this machine is {} {ahead} the gateway", rough(gap));
    let fix = "set both by NTP: `timedatectl` shows whether that is on";
    match gap.as_secs() {
        // the date has no fractions, and the answer took a while
        0..=5 => finding.ok(seen),
        6..=300 => finding.warning(
            seen,
            "one of the two clocks is wrong; beyond 5 min certificates are refused",
            fix,
        ),
        _ => finding.failed(seen, "one of the two clocks is wrong; certificates allow 5 min", fix),
    }
}

/// A duration in whole seconds.
fn rough(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}

fn release(theirs: &str) -> Check {
    let finding = Finding::new("release of this command");
    if theirs == RELEASE {
        return finding.ok(format!("{RELEASE}, here and there"));
    }
    finding.warning(
        format!("{RELEASE} here, {theirs} at the gateway"),
        "a command of another release may not know every answer",
        "use the gateway's release of this command; upgrade gateways one at a time",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn clocks_are_compared() {
        let noted = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110 section 5.6.7
        let check = |seconds: u64| {
            clock(Some("Sun, 06 Nov 1994 08:49:37 GMT"), UNIX_EPOCH + Duration::from_secs(seconds))
        };
        let ok = check(noted + 1);
        assert_eq!((ok.state.as_str(), ok.seen.as_str()), ("ok", "this machine is 1s ahead of the gateway"));
        assert_eq!(check(noted - 60).state, "warning");
        let hour = check(noted - 3600);
        assert_eq!(
            (hour.state.as_str(), hour.seen.as_str()),
            ("failed", "this machine is 1h behind the gateway")
        );
        for date in [None, Some("tomorrow")] {
            assert_eq!(clock(date, UNIX_EPOCH).state, "warning");
        }
    }

    #[test]
    fn another_release_is_a_warning() {
        assert_eq!(release(RELEASE).state, "ok");
        assert_eq!(release("9.9.9").state, "warning");
    }
}
