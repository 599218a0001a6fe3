"""Causeway over its four-process path, sidecar and gateway in `iad`, gateway and sidecar in `phx`; and within `iad`, from sidecar to
sidecar.

The only module that knows Causeway's command line. Everything else sees a `Path`.
"""

import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path as File

import backends
from paths import SAME_CLUSTER, SAME_SUFFIX, Path
from processes import BenchError, listening, require_free

WEB = "web.bench:80"
IPERF = "iperf.bench:5201"
GATEWAY_PORT, ADMIN_PORT, GATEWAY_TELEMETRY, SIDECAR_TELEMETRY = 7443, 7444, 7445, 7446
READY_SECONDS = 30
# No line for each connection, as Envoy writes none here.
LOG = "warn"


class Cluster:
    """Where a cluster's processes live on loopback."""

    def __init__(self, name, region, zone, prefix):
        self.name, self.region, self.zone, self.prefix = name, region, zone, prefix
        self.gateway = f"{prefix}.1"

    def sidecar(self, number=0):
        """The address of a sidecar: .10 is the one on the measured path, the others are for many connections."""
        return f"{self.prefix}.{10 + number}"


IAD = Cluster("iad", "us-ashburn-1", "AD-1", "127.0.21")
PHX = Cluster("phx", "us-phoenix-1", "AD-1", "127.0.22")


def sidecar_name(cluster, number=0):
    return f"sidecar-{cluster.name}" + (f"-{number}" if number else "")


class Mesh(Path):
    """Two linked clusters of one gateway each, with datagrams of `size` bytes; sidecars are added by name."""

    clusters = (IAD, PHX)

    def __init__(self, workdir, binary, size):
        super().__init__()
        self.name = f"causeway-{size}"
        self.workdir = File(workdir) / self.name
        # A turn begins without any state of the last: what is measured includes no recovery.
        self.workdir = _fresh(self.workdir)
        self.binary, self.size = File(binary), size
        self.env = {"CAUSEWAY_CONTEXT_DIR": str(self.workdir / "contexts")}

    def start_clusters(self):
        """The gateways, ready, and linked."""
        require_free({(c.gateway, p) for c in self.clusters for p in (ADMIN_PORT, GATEWAY_TELEMETRY)})
        for cluster in self.clusters:
            self._start_gateway(cluster)
        for cluster in self.clusters:
            url = f"http://{cluster.gateway}:{GATEWAY_TELEMETRY}/ready"
            self.wait_until(lambda url=url: _ok(url), f"gateway-{cluster.name}: {url}", READY_SECONDS)
        if len(self.clusters) > 1:
            invitation = self.operate("link", "invite", "--context", IAD.name)
            self.operate("link", "accept", "--context", PHX.name, invitation)

    def _start_gateway(self, cluster):
        name, at = f"gateway-{cluster.name}", cluster.gateway
        argv = [
            *("gateway", "--config", self._config(name), "--log", LOG),
            *("--cluster", cluster.name, "--region", cluster.region, "--zone", cluster.zone),
            *("--data-dir", self.workdir / name, "--listen", f"{at}:{GATEWAY_PORT}"),
            *("--admin", f"{at}:{ADMIN_PORT}", "--telemetry", f"{at}:{GATEWAY_TELEMETRY}"),
        ]
        self.start(name, [self.binary, *argv], self.workdir, self.env)

    def token(self, cluster, *services):
        """A join token for a workload that may serve `services`, or that only calls others."""
        wanted = [arg for service in services for arg in ("--service", service)]
        wanted = wanted or ["--account", "client", "--namespace", "bench"]
        return self.operate("token", "create", "--context", cluster.name, "--role", "workload", *wanted)

    def start_sidecar(self, cluster, token, number=0, serve=(), listen=(), names=None, before=()):
        """A sidecar with `serve` (SERVICE=ADDR) and `listen` (ADDR=SERVICE), or that answers questions for names at `names`; `before`
        stands before its command, such as `taskset -c 0`."""
        name, at = sidecar_name(cluster, number), cluster.sidecar(number)
        argv = [
            *("sidecar", "--config", self._config(name), "--log", LOG),
            *("--token", token, "--state-dir", self.workdir / name),
            *("--overlay", f"{at}:0", "--telemetry", f"{at}:{SIDECAR_TELEMETRY}"),
            *(arg for what in serve for arg in ("--serve", what)),
            *(arg for what in listen for arg in ("--listen", what)),
            *(("--capture", "redirect", "--dns-listen", names) if names else ()),
        ]
        self.start(name, [*before, self.binary, *argv], self.workdir, self.env)
        return name

    def export(self, cluster, service):
        self.operate("export", "--context", cluster.name, service.partition(":")[0])

    def operate(self, *args):
        """An operator's command; its standard output. Refusals carry the command's own explanation."""
        argv = [str(self.binary), *(str(a) for a in args)]
        env = {**os.environ, **self.env}
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=READY_SECONDS, env=env, check=False)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"causeway {' '.join(argv[1:3])} hung for {READY_SECONDS} s\n{self.logs()}") from error
        if done.returncode != 0:
            what = f"causeway {' '.join(argv[1:5])} failed with code {done.returncode}: {done.stderr.strip()}"
            raise BenchError(f"{what}\n{self.logs()}")
        return done.stdout.strip()

    def _config(self, name):
        """A configuration with what has no flag; the same datagram size at gateways and sidecars."""
        file = self.workdir / f"{name}.toml"
        # capturing datagrams would take a privilege, and nothing here captures any
        capture = "capture-udp = false\n" if name.startswith("sidecar") else ""
        file.write_text(f"{capture}[transport]\ndatagram-size = {self.size}\n")
        return file


class Causeway(Mesh):
    """The contestant: one sidecar on each side, the web and the iperf3 service in phx, called from iad."""

    web = ("127.0.0.1", 18080)
    iperf = ("127.0.0.1", 15280)

    def up(self):
        require_free({self.web, self.iperf})
        self.start_clusters()
        self.start_server()
        listen = [f"{self.web[0]}:{self.web[1]}={WEB}", f"{self.iperf[0]}:{self.iperf[1]}={IPERF}"]
        self.start_sidecar(IAD, self.token(IAD), listen=listen)
        self.await_answer(READY_SECONDS)
        return self

    def start_server(self):
        """The sidecar of the services."""
        self.serve(PHX)
        for service in (WEB, IPERF):
            self.export(PHX, service)

    def serve(self, cluster, number=0):
        serve = [f"{WEB}={backends.HOST}:{backends.WEB_PORT}", f"{IPERF}={backends.HOST}:{backends.IPERF_PORT}"]
        self.start_sidecar(cluster, self.token(cluster, WEB, IPERF), number, serve=serve)


class CausewaySame(Causeway):
    """The contestant within a cluster: both sidecars in iad, whose gateway keeps the registry and is no part of the path."""

    clusters = (IAD,)
    # What still goes by the gateway is the control connections.
    DIRECT_SHARE = 0.99

    def __init__(self, workdir, binary, size):
        super().__init__(workdir, binary, size)
        self.name += SAME_SUFFIX

    def up(self):
        super().up()
        what = f"{self.name}: both sidecars reach each other without the gateway"
        self.wait_until(lambda: all(m["direct_alive"] for m in self._overlays().values()), what, READY_SECONDS)
        self.before = self._overlays()
        return self

    def start_server(self):
        self.serve(IAD, 1)

    def checked(self):
        """The share of datagrams that went straight to the other sidecar since `up`, of each; an error if it is not nearly all."""
        shares = {}
        for name, after in self._overlays().items():
            sent, direct = (after[k] - self.before[name][k] for k in ("sent_datagrams_total", "direct_datagrams_total"))
            shares[f"direct_share.{name}"] = share = direct / sent if sent else 0.0
            if share < self.DIRECT_SHARE:
                raise BenchError(f"{self.name}: {name} sent {direct:.0f} of {sent:.0f} datagrams to the other one, the rest to the gateway")
        return shares

    def _overlays(self):
        return {sidecar_name(IAD, n): overlay_metrics(IAD.sidecar(n)) for n in range(len(SAME_CLUSTER))}


class ManyConnections(Mesh):
    """`clients` sidecars in iad that each call `servers` services of `servers` sidecars in phx: clients x servers end-to-end
    connections through the two gateways, each between a pair of real sidecars."""

    CLIENTS, SERVERS = 32, 32
    FIRST_PORT = 19000

    def up(self):
        self.start_clusters()
        for number in range(1, self.SERVERS + 1):
            service = f"web{number}.bench:80"
            served = f"{service}={backends.HOST}:{backends.WEB_PORT}"
            self.start_sidecar(PHX, self.token(PHX, service), number, serve=[served])
            self.export(PHX, service)
        for number in range(1, self.CLIENTS + 1):
            listen = [f"{host}:{port}=web{port - self.FIRST_PORT}.bench:80" for host, port in self.listeners(number)]
            self.start_sidecar(IAD, self.token(IAD), number, listen=listen)
        wanted = [address for number in range(1, self.CLIENTS + 1) for address in self.listeners(number)]
        self.wait_until(lambda: listening(*wanted), "every sidecar of iad listens", 2 * READY_SECONDS)
        return self

    def listeners(self, number):
        """The addresses where the sidecar `number` of iad offers the services, the first service first."""
        return [(IAD.sidecar(number), self.FIRST_PORT + n) for n in range(1, self.SERVERS + 1)]

    def connect(self, number, deadline=READY_SECONDS):
        """One request from the sidecar `number` of iad to each of phx; opens the end-to-end connections."""
        for host, port in self.listeners(number):
            what = f"{sidecar_name(IAD, number)} to web{port - self.FIRST_PORT}.bench"
            self.wait_until(lambda at=(host, port): backends.answers(*at), what, deadline)


def measure_connections(workdir, binary, size):
    """Memory of a gateway with 1,024 end-to-end connections, and of each connection at both its sidecars, in KiB."""
    with ManyConnections(workdir, binary, size) as mesh:
        mesh.up()
        time.sleep(2)
        before = {name: m["rss"] for name, m in mesh.memory().items()}
        for number in range(1, mesh.CLIENTS + 1):
            mesh.connect(number)
        time.sleep(2)
        after = {name: m["rss"] for name, m in mesh.memory().items()}
        grown = {name: after[name] - before[name] for name in after}
        clients = [grown[sidecar_name(IAD, n)] / mesh.SERVERS for n in range(1, mesh.CLIENTS + 1)]
        servers = [grown[sidecar_name(PHX, n)] / mesh.CLIENTS for n in range(1, mesh.SERVERS + 1)]
        return {
            "connections.count": mesh.CLIENTS * mesh.SERVERS,
            "connections.gateway_kib.gateway-iad": after["gateway-iad"],
            "connections.gateway_kib.gateway-phx": after["gateway-phx"],
            "connections.per_connection_kib.client": sum(clients) / len(clients),
            "connections.per_connection_kib.server": sum(servers) / len(servers),
        }


def overlay_metrics(at):
    """The metrics of the overlay socket of the sidecar at `at`, without their prefix."""
    with urllib.request.urlopen(f"http://{at}:{SIDECAR_TELEMETRY}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    prefix = "causeway_overlay_"
    found = (line.removeprefix(prefix).split() for line in lines if line.startswith(prefix))
    return {fields[0]: float(fields[1]) for fields in found}


def version(binary):
    out = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=20, check=False)
    return out.stdout.strip() or "unknown"


def _ok(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


def _fresh(directory):
    """A new, empty directory with this name and a number that no earlier turn used."""
    for turn in range(1, 1000):
        candidate = directory.with_name(f"{directory.name}-{turn}")
        if not candidate.exists():
            candidate.mkdir(parents=True)
            return candidate
    raise BenchError(f"{directory}: a thousand turns in one run")
