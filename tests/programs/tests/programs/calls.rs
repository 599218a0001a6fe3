//! What each client does, and that it gets what it should.

use crate::mesh::Clusters;
use crate::plain::{Family, address, application};
use crate::servers::{PASSWORD, Program, Servers, key};
use serde_json::Value;
use std::time::Instant;

/// The stream of datagrams: bytes of each, how many a second, and for how many seconds.
const STREAM: [u32; 3] = [1400, 5000, 5];
/// The part of them that may be lost.
const LOSS: f64 = 0.001;

/// Runs every program over one family, and says how long each took.
#[track_caller]
pub(crate) fn all(clusters: &Clusters, servers: &Servers, family: Family) {
    for &program in &servers.programs {
        let began = Instant::now();
        let said = match program {
            Program::Curl => curl(clusters, family),
            Program::Redis => redis(clusters, family),
            Program::Postgres => postgres(clusters, family),
            Program::Iperf => iperf(clusters, family),
            Program::Ssh => ssh(clusters, family),
            Program::Websocket => websocket(clusters, servers, family),
            Program::Datagrams => datagrams(clusters, servers, family),
        };
        println!("{program:?} over IPv{} in {:.2?}: {said}", family.digit(), began.elapsed());
    }
}

fn curl(clusters: &Clusters, family: Family) -> String {
    let curl = format!("curl --silent --show-error --fail --max-time 20 -{}", family.digit());
    let web = "http://web.shop.mesh";
    assert_eq!(application(clusters, &format!("{curl} {web}/")).ok(), "web");
    let line = format!(
        "{curl} --output /dev/null --write-out '%{{size_download}} %{{speed_download}}' {web}/bytes/20000000"
    );
    let said = application(clusters, &line).ok();
    let (size, speed) = said.split_once(' ').expect("two words");
    assert_eq!(size, "20000000");
    // one after the other over a kept connection, and ten at once
    let many =
        application(clusters, &format!("{curl} --parallel --parallel-immediate '{web}/bytes/1000?[1-50]'"))
            .ok();
    assert_eq!(many.len(), 50 * 1000);
    format!("{speed} bytes/s")
}

fn redis(clusters: &Clusters, family: Family) -> String {
    let cli = format!("redis-cli -h {}", address(clusters, "cache.shop.mesh", family));
    assert_eq!(application(clusters, &format!("{cli} ping")).ok(), "PONG");
    let value = "x".repeat(100_000);
    assert_eq!(application(clusters, &format!("{cli} set key {value}")).ok(), "OK");
    assert_eq!(application(clusters, &format!("{cli} get key")).ok(), value);
    // a pipeline, and a name instead of an address
    let said = application(
        clusters,
        "seq 1 2000 | sed 's/.*/incr count/' | redis-cli -h cache.shop.mesh | tail -n 1",
    )
    .ok();
    assert!(said.parse::<u32>().is_ok_and(|count| count % 2000 == 0), "{said}");
    format!("{said} increments")
}

fn postgres(clusters: &Clusters, family: Family) -> String {
    let address = address(clusters, "db.shop.mesh", family);
    let psql = |query: &str| {
        let line = format!(
            "PGPASSWORD={PASSWORD} psql --no-psqlrc --host {address} --username app --dbname postgres -Atc \"{query}\""
        );
        application(clusters, &line).ok()
    };
    assert_eq!(psql("select sum(x) from generate_series(1, 100000) x"), "5000050000");
    let rows = psql("select x, repeat('row', 20) from generate_series(1, 20000) x");
    assert_eq!(rows.lines().count(), 20_000);
    let from = psql("select host(inet_client_addr())");
    assert_eq!(from, "127.0.0.6", "where the server sees its clients");
    format!("{} bytes of rows", rows.len())
}

fn iperf(clusters: &Clusters, family: Family) -> String {
    let client = format!("iperf3 --json --connect-timeout 10000 --client perf.shop.mesh -{}", family.digit());
    let json = |flags: &str| -> Value {
        let ran = application(clusters, &format!("{client} {flags}"));
        serde_json::from_str(&ran.clone().ok()).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    };
    let speed = |said: &Value| {
        let received = &said["end"]["sum_received"];
        assert!(received["bytes"].as_f64().is_some_and(|bytes| bytes > 0.0), "{said}");
        received["bits_per_second"].as_f64().unwrap() / 1e6
    };
    let (up, down) = (json("--bytes 20M"), json("--bytes 20M --reverse --parallel 2"));
    let datagrams = json("--udp --bandwidth 20M --length 1200 --time 1");
    let sum = &datagrams["end"]["sum"];
    let (lost, packets) = (sum["lost_packets"].as_u64().unwrap(), sum["packets"].as_u64().unwrap());
    assert!(packets > 1000 && lost * 100 <= packets, "{lost} of {packets} are lost: {sum}");
    // its own choice on loopback: each is more than a datagram of the mesh takes
    let large = json("--udp --bandwidth 20M --time 1");
    let sum = &large["end"]["sum"];
    let (large_lost, large_packets) =
        (sum["lost_packets"].as_u64().unwrap(), sum["packets"].as_u64().unwrap());
    assert!(
        large_packets > 10 && large_lost * 20 <= large_packets,
        "{large_lost} of {large_packets} are lost: {sum}"
    );
    format!(
        "TCP {:.0} Mbit/s, back {:.0}; UDP {lost} of {packets} lost, and {large_lost} of {large_packets} large ones",
        speed(&up),
        speed(&down)
    )
}

fn ssh(clusters: &Clusters, family: Family) -> String {
    let ssh = format!(
        "ssh -{} -F none -i {} -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
         root@host.ops.mesh",
        family.digit(),
        key(clusters).display()
    );
    assert_eq!(application(clusters, &format!("{ssh} 'echo $((6 * 7))'")).ok(), "42");
    assert_eq!(application(clusters, &format!("head -c 3000000 /dev/zero | {ssh} wc -c")).ok(), "3000000");
    let refused = application(clusters, &format!("{ssh} 'exit 7'"));
    assert_eq!(refused.code, Some(7), "{refused:?}");
    "a command, 3 MB through it, and its exit code".to_owned()
}

fn websocket(clusters: &Clusters, servers: &Servers, family: Family) -> String {
    let line = format!("{} websocket chat.shop.mesh:8081 {}", servers.own.display(), family.digit());
    application(clusters, &line).ok()
}

fn datagrams(clusters: &Clusters, servers: &Servers, family: Family) -> String {
    let [bytes, rate, seconds] = STREAM;
    let line = format!(
        "{} datagrams voice.media.mesh:4000 {} {bytes} {rate} {seconds}",
        servers.own.display(),
        family.digit()
    );
    let said = application(clusters, &line).ok();
    let counted: Value = serde_json::from_str(&said).unwrap();
    let (sent, back) = (counted["sent"].as_f64().unwrap(), counted["back"].as_f64().unwrap());
    let lost = (sent - back) / sent;
    assert!(lost < LOSS, "{:.3} % of a stream to and fro is lost: {said}", lost * 100.0);
    assert!(counted["per_second"].as_f64().unwrap() > f64::from(rate) * 0.98, "{said}");
    format!("{said}, {:.3} % lost to and fro", lost * 100.0)
}
