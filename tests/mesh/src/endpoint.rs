//! Several endpoints of one service: applications whose mood a test changes while they run, behind a sidecar each.

use crate::{Cluster, Mesh, Sidecar, SidecarBuilder, loopback, reset};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where an application listens: at an address of its own, so that nobody else takes the port while it does not.
const PORT: u16 = 9000;
/// The longest line of a request.
const LINE: u64 = 8192;

/// What an application does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It answers an HTTP request with its name, after so long.
    Answers(Duration),
    /// It answers an HTTP request with this status.
    Says(u16),
    /// It does not listen.
    Refuses,
    /// It hears a request and resets the connection.
    Resets,
    /// It hears a request and closes the connection without an answer.
    HangsUp,
    /// It closes connections at once.
    Closes,
}

impl Mood {
    /// It answers at once.
    pub const WELL: Self = Self::Answers(Duration::ZERO);
}

#[derive(Debug)]
struct Shared {
    name: String,
    mood: Mutex<Mood>,
    taken: AtomicU64,
    stop: AtomicBool,
}

/// An HTTP server of one request for each connection.
#[derive(Debug)]
pub struct Application {
    addr: SocketAddr,
    shared: Arc<Shared>,
    listening: Option<(TcpListener, JoinHandle<()>)>,
}

impl Application {
    /// One that answers with `name`.
    pub fn new(name: &str) -> Self {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            mood: Mutex::new(Mood::WELL),
            taken: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let mut application = Self { addr: (loopback(), PORT).into(), shared, listening: None };
        application.listen();
        application
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections it has taken, checks of its health included.
    pub fn taken(&self) -> u64 {
        self.shared.taken.load(Ordering::Relaxed)
    }

    /// What it does with connections from now on.
    pub fn is(&mut self, mood: Mood) {
        *self.shared.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
        match (mood, &self.listening) {
            (Mood::Refuses, Some(_)) => self.close(),
            (Mood::Refuses, None) | (_, Some(_)) => {}
            (_, None) => self.listen(),
        }
    }

    fn listen(&mut self) {
        let listener = TcpListener::bind(self.addr).expect("the address is this application's own");
        self.shared.stop.store(false, Ordering::Relaxed);
        let shared = Arc::clone(&self.shared);
        let own = listener.try_clone().expect("there are descriptors");
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                shared.taken.fetch_add(1, Ordering::Relaxed);
                let shared = Arc::clone(&shared);
                // what a peer does to its connection is judged where it is seen: at the client
                std::thread::spawn(move || drop(treat(stream, &shared)));
            }
        });
        self.listening = Some((own, thread));
    }

    fn close(&mut self) {
        let Some((listener, thread)) = self.listening.take() else { return };
        self.shared.stop.store(true, Ordering::Relaxed);
        // wakes the thread, which then ends, in whichever network namespace this one is
        rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).expect("it listens");
        drop(listener);
        thread.join().expect("it cannot panic");
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.close();
    }
}

fn treat(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mood = *shared.mood.lock().unwrap_or_else(PoisonError::into_inner);
    if mood == Mood::Closes {
        return Ok(());
    }
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.by_ref().take(LINE).read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let status = match mood {
        Mood::Answers(after) => {
            std::thread::sleep(after);
            200
        }
        Mood::Says(status) => status,
        Mood::Resets => {
            reset(stream);
            return Ok(());
        }
        Mood::HangsUp | Mood::Closes | Mood::Refuses => return Ok(()),
    };
    let Shared { name, .. } = shared;
    let head = format!("HTTP/1.1 {status} Told\r\nContent-Length: {}\r\n\r\n", name.len());
    stream.write_all(format!("{head}{name}").as_bytes())
}

/// One endpoint of a service.
#[derive(Debug)]
pub struct Endpoint {
    /// What answers.
    pub application: Application,
    /// What stands before it.
    pub sidecar: Sidecar,
}

impl Endpoint {
    /// Starts `count` endpoints of a service port such as `pool.test:80` in `cluster`, which answer with the cluster's name and a
    /// number from 0 on, and waits until all are ready. `with` adds to the sidecars' flags.
    #[track_caller]
    pub fn start(
        mesh: &Mesh,
        cluster: &Cluster,
        service: &str,
        count: usize,
        with: impl Fn(SidecarBuilder) -> SidecarBuilder,
    ) -> Vec<Self> {
        let args = ["token", "create", "--service", service, "--uses", &count.to_string()];
        let token = mesh.ok(&[&args[..], &["--context", cluster.name()]].concat());
        let mut all: Vec<Self> = (0..count)
            .map(|number| {
                let application = Application::new(&format!("{}-{number}", cluster.name()));
                let builder = mesh.sidecar(cluster, &format!("endpoint-{number}")).token(&token);
                let sidecar = with(builder.serve(service, application.addr())).spawn();
                Self { application, sidecar }
            })
            .collect();
        all.iter_mut().for_each(|endpoint| endpoint.sidecar.wait_ready());
        all
    }
}
