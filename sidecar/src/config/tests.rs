//! Every mistake is named, and all of them at once.

use super::*;
use proptest::prelude::*;

fn load(text: &str) -> Result<SidecarConfig, ConfigErrors> {
    SidecarConfig::from_toml(Path::new("side.toml"), text, SidecarOptions::default())
}

fn report(text: &str) -> String {
    load(text).unwrap_err().to_string()
}

const STATE: &str = "state-dir = \"/var/lib/causeway\"\n";

#[test]
fn a_whole_file_is_read() {
    let config = load(
        r#"
        state-dir = "/var/lib/causeway"
        overlay = "[::]:7444"
        serve = ["payments.shop:80/http=127.0.0.1:8080", "payments.shop:443=127.0.0.1:8443", "log.shop:514/udp=127.0.0.1:514"]
        listen = ["127.0.0.1:5432=db.shop:5432", "127.0.0.1:5432=log.shop:514/udp"]
        telemetry = "127.0.0.1:9100"
        region = "us-ashburn-1"
        zone = "AD-1"
        weight = 10
        drain = "3s"
        delivery-source = "127.0.0.7"
        handover = false
        passive-health = false
        log = "debug"
        log-format = "json"
        [limits]
        max-connections = 5
        connect-timeout = "1s"
        idle-timeout = "0s"
        [[health]]
        service = "payments.shop"
        port = 80
        kind = "http"
        path = "/healthz"
        expect = 204
        interval = "1s"
        unhealthy-threshold = 2
        [[health]]
        service = "payments.shop"
        kind = "tcp"
        start = "healthy"
        [balance]
        attempts = 5
        ejection-time = "1s"
        spill-in-flight = 100
        [transport]
        datagram-size = 8900
        "#,
    )
    .unwrap();
    assert_eq!((config.balance.attempts, config.balance.spill_in_flight), (5, 100));
    assert_eq!((config.balance.max_ejected, config.balance.healthy_share), (50, 70));
    assert_eq!(config.serve.len(), 3);
    let ports: Vec<String> = config.services().values().map(ToString::to_string).collect();
    assert_eq!(ports, ["514/udp", "80/http,443/tcp"]);
    assert!(config.listen[1].udp && !config.listen[0].udp);
    assert_eq!(config.listen[1].to_string(), "127.0.0.1:5432=log.shop:514/udp");
    assert_eq!(config.listen[0].to_string(), "127.0.0.1:5432=db.shop:5432");
    assert_eq!(config.locality().unwrap().to_string(), "us-ashburn-1/AD-1");
    assert_eq!((config.limits.max_connections, config.limits.endpoints_per_service), (5, 16));
    assert_eq!(config.transport.datagram_size, 8900);
    let shown = serde_json::to_value(&config).unwrap();
    assert_eq!(shown["serve"][0], "payments.shop:80/http=127.0.0.1:8080");
    assert_eq!(shown["limits"]["connect-timeout"], "1s");
    assert_eq!((config.handover, config.passive_health, config.health.len()), (false, false, 2));
    assert_eq!(shown["health"][0]["expect"], "204");
    assert_eq!(shown["health"][1]["expect"], "200-399");
    assert!(config.limits.idle_timeout.is_zero());
}

#[test]
fn three_mistakes_are_reported_at_once() {
    let said = report("weigth = 3\noverlay = \"here\"\n[limits]\nconnect-timeout = \"1h\"\n");
    assert!(said.contains("side.toml:1: weigth: unknown key, did you mean \"weight\"?"), "{said}");
    assert!(said.contains("side.toml:2: overlay = \"here\": write IP:PORT"), "{said}");
    assert!(
        said.contains("side.toml:4: limits.connect-timeout = \"1h\": write a duration from 100ms to 5m"),
        "{said}"
    );
    assert!(said.contains("a sidecar joins with a token: give token, token-file, or a state-dir"), "{said}");
    assert_eq!(said.lines().count(), 4, "{said}");
}

#[test]
fn every_mistake_is_named() {
    for (text, expected) in [
        ("serve = [\"payments:80=127.0.0.1:1\"]", "write SERVICE.NAMESPACE:PORT=IP:PORT"),
        ("serve = [\"pay.shop:80=127.0.0.1:0\"]", "write SERVICE.NAMESPACE:PORT=IP:PORT"),
        ("serve = [\"pay.shop:80=0.0.0.0:80\"]", "write SERVICE.NAMESPACE:PORT=IP:PORT"),
        (
            "serve = [\"pay.shop:80=127.0.0.1:1\", \"pay.shop:80/http=127.0.0.1:2\"]",
            "pay.shop:80 is served twice",
        ),
        (
            "listen = [\"127.0.0.1:1=a.b:1/udp\", \"127.0.0.1:1=c.d:1/udp\"]",
            "127.0.0.1:1 is listened on twice",
        ),
        ("listen = [\"127.0.0.1:1=a.b:1/http\"]", "write IP:PORT=SERVICE.NAMESPACE:PORT"),
        ("[limits]\nmax-flows = 0", "limits.max-flows = 0: write a whole number from 1 to 1000000"),
        ("[limits]\nudp-idle-timeout = \"2h\"", "write a duration from 1s to 1h"),
        ("listen = [\"8080=pay.shop:80\"]", "write IP:PORT=SERVICE.NAMESPACE:PORT"),
        ("listen = [\"127.0.0.1:1=pay.shop:0\"]", "write IP:PORT=SERVICE.NAMESPACE:PORT"),
        ("listen = [\"127.0.0.1:1=a.b:1\", \"127.0.0.1:1=c.d:1\"]", "127.0.0.1:1 is listened on twice"),
        ("listen = \"127.0.0.1:1=a.b:1\"\ntelemetry = \"127.0.0.1:1\"", "127.0.0.1:1 is listened on for a.b"),
        ("region = \"here\"", "zone: required with region"),
        ("zone = \"here\"", "region: required with zone"),
        ("region = \"\"\nzone = \"a\"", "region = \"\": write 1 to 128 bytes"),
        ("weight = 0", "weight = 0: write a whole number from 1 to 1000"),
        ("drain = \"2h\"", "write a duration of at most 1h"),
        ("drain = \"15\"", "unit"),
        ("delivery-source = \"127.0.0.1\"", "that is not 127.0.0.1"),
        ("log-format = \"xml\"", "write text or json"),
        ("token-file = \"/t\"\ntoken = \"cwj1_x\"", "give either token or token-file, not both"),
        ("token = \"cwl1_secret\"", "join token: this is not a join token"),
        (
            "[limits]\nmax-connections = 0",
            "limits.max-connections = 0: write a whole number from 1 to 1000000",
        ),
        ("[limits]\nidle-timeout = \"10ms\"", "write a duration from 1s to 7d, or 0s for none"),
        ("[limits]\nreserved-descriptors = 1", "write a whole number from 16 to 100000"),
        ("[[health]]\nkind = \"tcp\"", "health[0].service: required, but missing"),
        (
            "[[health]]\nservice = \"pay.shop\"\nkind = \"icmp\"",
            "health[0].kind: invalid kind \"icmp\": write tcp or http",
        ),
        ("[[health]]\nservice = \"pay.shop\"\nkind = \"tcp\"", "pay.shop is not served over TCP"),
        ("[[health]]\nservice = \"pay.shop\"\nkind = \"tcp\"\npath = \"/\"", "only a check of kind"),
        ("[[health]]\nservice = \"pay.shop\"\nkind = \"http\"\npath = \"up\"", "write an absolute path"),
        (
            "[[health]]\nservice = \"pay.shop\"\nkind = \"http\"\nexpect = \"2xx\"",
            "write a status such as 204",
        ),
        ("[[health]]\nservice = \"pay.shop\"\nkind = \"http\"\ninterval = \"1ms\"", "from 100ms to 1h"),
        ("[[health]]\nservice = \"pay.shop\"\nkind = \"http\"\nhealthy-threshold = 0", "from 1 to 100"),
        (
            "[[health]]\nservice = \"pay.shop\"\nkind = \"http\"\nstart = \"maybe\"",
            "write unhealthy or healthy",
        ),
        ("[[health]]\nservice = \"pay.shop\"\nkind = \"http\"\nexpected = 200", "did you mean \"expect\"?"),
        ("[balance]\nattempts = 0", "balance.attempts = 0: write a whole number from 1 to 16"),
        ("[balance]\nhealthy-share = 0", "write a whole number from 1 to 100"),
        ("[balance]\nmax-ejected = 101", "write a whole number from 0 to 100"),
        ("[balance]\nattempt-timeout = \"2m\"", "write a duration from 100ms to 1m"),
        ("[balance]\nreturn-time = \"0s\"", "write a duration from 100ms to 10m"),
        (
            "[balance]\nejection-time = \"1m\"",
            "balance.max-ejection-time: write a duration from ejection-time to 1h",
        ),
        ("[limits]\nendpoints-per-service = 17", "write a whole number from 1 to 16"),
        (
            "[transport]\ndatagram-size = 12000",
            "transport.datagram-size = 12000: 12000 is not from 1200 to 8900",
        ),
        ("[transport]\nsend-windw = 1", "did you mean \"send-window\"?"),
    ] {
        let said = report(&format!("{STATE}{text}"));
        assert!(said.contains(expected), "{text}\n{said}");
        assert!(!said.contains("cwl1_secret"), "{said}");
    }
}

#[test]
fn flags_win_and_stand_alone() {
    let flags = SidecarOptions {
        state_dir: Some("/s".into()),
        weight: Some(7),
        serve: vec!["pay.shop:80=127.0.0.1:1".parse().unwrap()],
        health: vec!["pay.shop=http:/up".parse().unwrap()],
        listen: vec!["[::1]:0=a.b:1".parse().unwrap()],
        ..SidecarOptions::default()
    };
    let config = SidecarConfig::load(None, flags.clone()).unwrap();
    assert_eq!((config.weight, *config.drain), (7, std::time::Duration::from_secs(15)));
    let both = SidecarConfig::from_toml(Path::new("x"), "weight = 3\nlisten = \"127.0.0.1:1=c.d:1\"", flags)
        .unwrap();
    assert_eq!((both.weight, both.listen[0].to_string().as_str()), (7, "[::1]:0=a.b:1"));
    let check = &both.health[0];
    assert_eq!((check.path.as_deref(), both.handover, both.passive_health), (Some("/up"), true, true));
    let error = SidecarConfig::load(None, SidecarOptions::default()).unwrap_err();
    assert_eq!(error.mistakes.len(), 1);
}

#[test]
fn a_delivery_never_comes_from_localhost_over_ipv4() {
    let config = load(STATE).unwrap();
    let from = |upstream: &str| config.delivery_to(upstream.parse().unwrap()).map(|ip| ip.to_string());
    assert_eq!(from("127.0.0.1:80").as_deref(), Some("127.0.0.6"));
    assert_eq!(from("[::1]:80").as_deref(), Some("::1"));
    assert_eq!(from("192.0.2.1:80"), None);
    let config = load(&format!("{STATE}delivery-source = \"192.0.2.7\"")).unwrap();
    assert_eq!(config.delivery_to("192.0.2.1:80".parse().unwrap()).unwrap().to_string(), "192.0.2.7");
}

proptest! {
    #[test]
    fn specs_print_as_they_parse(s in "(\\[::1\\]|127.0.0.1|[a-z.]{0,6}):[0-9]{1,5}(/(tcp|http|udp))?=([a-z.]{0,6}|127.0.0.1):[0-9]{1,5}") {
        if let Ok(spec) = s.parse::<ListenSpec>() {
            prop_assert_eq!(spec.to_string().parse::<ListenSpec>().unwrap(), spec);
        }
        if let Ok(spec) = s.parse::<ServeSpec>() {
            prop_assert_eq!(spec.to_string().parse::<ServeSpec>().unwrap(), spec);
        }
    }
}
