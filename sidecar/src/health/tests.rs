//! Checks against real listeners.

use super::*;
use crate::config::SidecarOptions;
use causeway_runtime::Metrics;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

/// Checks that run, and what they told last.
struct Running {
    told: watch::Receiver<Option<Health>>,
    readiness: Readiness,
    text: Metrics,
    delivery: Delivery,
    tasks: Tasks,
}

fn service() -> ServiceName {
    "pay.shop".parse().unwrap()
}

fn run(upstream: SocketAddr, more: &str) -> Running {
    let text = format!("state-dir = \"/s\"\nserve = \"pay.shop:80={upstream}\"\n{more}");
    let config = SidecarConfig::from_toml(Path::new("x"), &text, SidecarOptions::default()).unwrap();
    let (delivery, tasks, readiness) = (Delivery::new(&config), Tasks::new(), Readiness::new());
    let (said, told) = watch::channel(None);
    let said = Mutex::new(said);
    let tell: Tell = Arc::new(move |_, health| {
        said.lock().unwrap().send_replace(Some(health));
    });
    let (metrics, text) = (HealthMetrics::default(), Metrics::new());
    text.registry(|registry| metrics.register(registry));
    start(&config, &delivery, tell, &metrics, (&tasks, &readiness));
    Running { told, readiness, text, delivery, tasks }
}

impl Running {
    async fn becomes(&mut self, health: Health) {
        timeout(SOON, self.told.wait_for(|told| *told == Some(health))).await.unwrap().unwrap();
    }

    async fn refused(&self) {
        self.delivery.dial(&service(), 80, SOON).await.unwrap_err();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// The same port again.
async fn again(addr: SocketAddr) -> TcpListener {
    let socket = causeway_runtime::bind_tcp("test", "--test", addr).unwrap();
    TcpListener::from_std(socket).unwrap()
}

/// An HTTP server that answers with `status` and notes what it was asked.
fn http(listener: TcpListener, status: watch::Receiver<&'static str>, heads: Arc<Mutex<Vec<String>>>) {
    tokio::spawn(async move {
        while let Ok((mut tcp, from)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let read = tcp.read(&mut head).await.unwrap_or(0);
            head.truncate(read);
            heads.lock().unwrap().push(format!("{} {}", from.ip(), String::from_utf8_lossy(&head)));
            let answer = format!("HTTP/1.1 {}\r\nContent-Length: 0\r\n\r\n", *status.borrow());
            let _ = tcp.write_all(answer.as_bytes()).await;
        }
    });
}

#[tokio::test]
async fn an_application_that_starts_later_is_found() {
    let (closed, addr) = listener().await;
    drop(closed);
    let mut running = run(addr, "[[health]]\nservice = \"pay.shop\"\nkind = \"tcp\"\ninterval = \"1h\"\n");
    // the first result makes it ready, whatever it is
    timeout(SOON, running.readiness.wait()).await.unwrap();
    assert_eq!(*running.told.borrow(), None, "it was unhealthy from the start");
    let _open = again(addr).await;
    running.becomes(Health::Healthy).await;
}

#[tokio::test]
async fn http_checks_see_the_status_and_go_the_way_of_deliveries() {
    let (listener, addr) = listener().await;
    let (status, said) = watch::channel("204 No Content");
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    http(listener, said, Arc::clone(&heads));
    let mut running = run(
        addr,
        "[[health]]\nservice = \"pay.shop\"\nkind = \"http\"\npath = \"/up?x=1\"\nexpect = \"200-299\"\ninterval = \"100ms\"\nunhealthy-threshold = 2\n",
    );
    running.becomes(Health::Healthy).await;
    let head = heads.lock().unwrap()[0].clone();
    assert!(head.starts_with("127.0.0.6 GET /up?x=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("host: pay.shop\r\n") && head.contains("user-agent: causeway-health/"), "{head}");
    status.send_replace("503 Service Unavailable");
    running.becomes(Health::Unhealthy).await;
    status.send_replace("302 Found");
    let seen = heads.lock().unwrap().len();
    timeout(SOON, async {
        while heads.lock().unwrap().len() < seen + 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(*running.told.borrow(), Some(Health::Unhealthy));
    status.send_replace("200 OK");
    running.becomes(Health::Healthy).await;
    let text = running.text.encode();
    for line in [
        "causeway_sidecar_health_state{service=\"pay.shop\"} 1",
        "causeway_sidecar_health_transitions_total{service=\"pay.shop\",to=\"unhealthy\"} 1",
        "causeway_sidecar_health_checks_total{service=\"pay.shop\",result=\"failed\"}",
        "causeway_sidecar_health_check_seconds_count{service=\"pay.shop\"}",
    ] {
        assert!(text.contains(line), "no {line} in {text}");
    }
}

#[tokio::test]
async fn an_application_that_answers_nothing_or_nonsense_fails() {
    let (mute, addr) = listener().await;
    let mut running = run(
        addr,
        "[[health]]\nservice = \"pay.shop\"\nkind = \"http\"\nstart = \"healthy\"\ntimeout = \"100ms\"\ninterval = \"100ms\"\n",
    );
    running.becomes(Health::Unhealthy).await;
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = mute.accept().await {
            let _ = tcp.write_all(b"SSH-2.0-nonsense\r\n\r\n").await;
        }
    });
    let failed = "causeway_sidecar_health_checks_total{service=\"pay.shop\",result=\"failed\"} ";
    let count = || {
        let text = running.text.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(failed)).unwrap().to_owned();
        line.parse::<u64>().unwrap()
    };
    let before = count();
    timeout(SOON, async {
        while count() < before + 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(*running.told.borrow(), Some(Health::Unhealthy));
}

#[tokio::test]
async fn without_checks_a_refused_delivery_is_told_and_so_is_its_end() {
    let (closed, addr) = listener().await;
    drop(closed);
    let mut running = run(addr, "");
    assert!(running.readiness.is_ready(), "nothing is checked until something is wrong");
    running.refused().await;
    running.becomes(Health::Unhealthy).await;
    let open = again(addr).await;
    running.becomes(Health::Healthy).await;
    drop(open);
    running.refused().await;
    running.becomes(Health::Unhealthy).await;
}

#[tokio::test]
async fn a_refused_delivery_does_not_wait_for_the_next_check() {
    let (open, addr) = listener().await;
    let mut running = run(addr, "[[health]]\nservice = \"pay.shop\"\nkind = \"tcp\"\ninterval = \"1h\"\n");
    running.becomes(Health::Healthy).await;
    drop(open);
    running.refused().await;
    running.becomes(Health::Unhealthy).await;
}

#[tokio::test]
async fn refusals_can_be_left_to_checks() {
    let (closed, addr) = listener().await;
    drop(closed);
    let text = format!("state-dir = \"/s\"\nserve = \"pay.shop:80={addr}\"\npassive-health = false");
    let config = SidecarConfig::from_toml(Path::new("x"), &text, SidecarOptions::default()).unwrap();
    assert!(checked(&config, &Delivery::new(&config)).is_empty());
}

#[test]
fn a_service_starts_as_its_checks_say() {
    let of = |more: &str| {
        let text = format!(
            "state-dir = \"/s\"\nserve = [\"pay.shop:80=127.0.0.1:1\", \"pay.shop:81=127.0.0.1:2\"]\n{more}"
        );
        let config = SidecarConfig::from_toml(Path::new("x"), &text, SidecarOptions::default()).unwrap();
        initial(&config, &service())
    };
    let check = |more: &str| format!("[[health]]\nservice = \"pay.shop\"\nkind = \"tcp\"\n{more}\n");
    assert_eq!(of(""), Health::Healthy);
    assert_eq!(of(&check("")), Health::Unhealthy);
    assert_eq!(of(&check("start = \"healthy\"")), Health::Healthy);
    assert_eq!(
        of(&format!("{}{}", check("port = 80"), check("port = 81\nstart = \"healthy\""))),
        Health::Unhealthy
    );
}
