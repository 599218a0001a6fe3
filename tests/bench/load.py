"""The measurements: each takes a contestant that is up and returns a flat dictionary of figures.

Keys are `group.metric`; CPU keys end in the process's name. Units are in the key: `_s`, `_ms`, `_us`, `_kib`, `gbps` (10^9 bits),
`_gb` (10^9 bytes).
"""

import json
import socket
import subprocess
import time
from pathlib import Path as File

import backends
from paths import GATEWAYS
from processes import BenchError, children_cpu

HERE = File(__file__).resolve().parent
IDLE_CONNECTIONS = 1000


def bulk(path, web, streams, seconds, workdir):
    """iperf3 from the client to the server: what the server received, and CPU seconds for each 10^9 bytes."""
    _warm_up_iperf(path, workdir)
    before, others = path.cpu(), children_cpu()
    received, took = _iperf(path, streams, seconds, workdir)
    spent = _spent(path.cpu(), before)
    spent["ends"] = children_cpu() - others
    key = f"bulk{streams}"
    return {f"{key}.gbps": received * 8 / took / 1e9} | _per(f"{key}.cpu_s_per_gb", spent, received / 1e9)


def requests(path, web, connections, seconds, workdir):
    """Keep-alive requests of a 1 KiB body."""
    return _wrk(path, web, f"rps{connections}", connections, seconds, [])


def new_connections(path, web, seconds, workdir):
    """A connection for each request: 64 clients that open, ask once and are closed by the server."""
    return _wrk(path, web, "newconn", 64, seconds, ["-H", "Connection: close"])


def memory(path, web, seconds, workdir):
    """Resident memory after the first request, and with 1,000 open connections that have each carried one."""
    idle = _settled(path)
    with IdleConnections(path, IDLE_CONNECTIONS):
        loaded = _settled(path)
    figures = {}
    for name, before in idle.items():
        after = loaded[name]
        figures[f"memory.idle_kib.{name}"] = before["rss"]
        figures[f"memory.idle_anon_kib.{name}"] = before["anon"]
        figures[f"memory.conns1000_kib.{name}"] = after["rss"]
        figures[f"memory.per_conn_kib.{name}"] = (after["rss"] - before["rss"]) / IDLE_CONNECTIONS
    return figures


class IdleConnections:
    """Open connections through the path, each proved by one answered request."""

    def __init__(self, path, count):
        self.path, self.count, self.sockets = path, count, []

    def __enter__(self):
        request = f"GET / HTTP/1.1\r\nHost: {self.path.web[0]}\r\n\r\n".encode()
        try:
            for number in range(self.count):
                peer = socket.create_connection(self.path.web, timeout=10)
                self.sockets.append(peer)
                peer.sendall(request)
                _read_answer(peer, number)
        except OSError as error:
            self.__exit__()
            raise BenchError(
                f"{self.path.name}: idle connection {len(self.sockets)} of {self.count} failed: {error}\n{self.path.logs()}"
            ) from error
        return self

    def __exit__(self, *_):
        for peer in self.sockets:
            peer.close()


def _read_answer(peer, number):
    data = b""
    while True:
        head, blank, body = data.partition(b"\r\n\r\n")
        if blank and len(body) >= backends.BODY_BYTES:
            if not head.startswith(b"HTTP/1.1 200"):
                raise BenchError(f"idle connection {number}: answered {head.splitlines()[0]!r}")
            return
        part = peer.recv(65536)
        if not part:
            raise OSError(f"closed after {len(data)} bytes of the answer")
        data += part


def _settled(path, limit=6.0):
    """Memory once two looks half a second apart differ by less than 1 %; at the latest after `limit` seconds."""
    end = time.monotonic() + limit
    last = path.memory()
    while True:
        time.sleep(0.5)
        now = path.memory()
        if time.monotonic() > end or all(abs(now[n]["rss"] - last[n]["rss"]) <= last[n]["rss"] // 100 for n in now):
            return now
        last = now


def _warm_up_iperf(path, workdir, deadline=30.0):
    """A second of traffic, so that connections, windows and worker threads exist; waits for a mesh to learn the service."""
    end = time.monotonic() + deadline
    while True:
        try:
            _iperf(path, 1, 1, workdir)
            return
        except BenchError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _iperf(path, streams, seconds, workdir):
    """(bytes received by the server, seconds). The server's own end of test is what is counted."""
    host, port = path.iperf
    with backends.IperfServer(workdir) as server:
        argv = ["iperf3", "-c", host, "-p", str(port), "-P", str(streams), "-t", str(seconds), "-J", "--connect-timeout", "5000"]
        out = _output(argv, seconds + 30)
        try:
            result = json.loads(out)
        except ValueError as error:
            raise BenchError(f"{path.name}: iperf3 printed no JSON: {out[:200]!r}") from error
        if "error" in result:
            raise BenchError(f"{path.name}: iperf3: {result['error']}\n{path.logs()}")
        server.server.wait(5)
        total = result["end"]["sum_received"]
        return total["bytes"], total["seconds"]


def _wrk(path, web, key, connections, seconds, extra):
    _wrk_once(path, connections, 1, extra)
    before, others, server = path.cpu(), children_cpu(), web["nginx"].cpu()
    result = _wrk_once(path, connections, seconds, extra)
    spent = _spent(path.cpu(), before)
    spent["ends"] = children_cpu() - others + web["nginx"].cpu() - server
    figures = {f"{key}.per_s": result["requests"] * 1e6 / result["duration_us"], f"{key}.errors": sum(result["errors"].values())}
    figures |= {f"{key}.{p}_us": result[f"{p}_us"] for p in ("p50", "p90", "p99", "p999", "max")}
    in_ms = {name: cpu * 1000 for name, cpu in spent.items()}
    return figures | _per(f"{key}.cpu_ms_per_1000", in_ms, result["requests"] / 1000)


def _wrk_once(path, connections, seconds, extra):
    host, port = path.web
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s", "-s", str(HERE / "report.lua")]
    out = _output([*argv, *extra, f"http://{host}:{port}/"], seconds + 30)
    line = next((line for line in out.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise BenchError(f"{path.name}: wrk gave no result: {out[:300]!r}\n{path.logs()}")
    result = json.loads(line.removeprefix("RESULT "))
    if result["requests"] == 0:
        raise BenchError(f"{path.name}: wrk got no answer at all, errors {result['errors']}\n{path.logs()}")
    return result


def _output(argv, limit):
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=limit, check=False).stdout
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{argv[0]} hung: killed after {limit} s ({' '.join(argv)})") from error


def _spent(after, before):
    return {name: after[name] - before[name] for name in after}


def _per(key, spent, units):
    """CPU per unit of work for each process, summed over the proxies, and as the mean of the gateways."""
    each = {name: cpu / units for name, cpu in spent.items()}
    proxies = [cpu for name, cpu in each.items() if name != "ends"]
    if proxies:
        each["proxies"] = sum(proxies)
    gateways = [each[name] for name in GATEWAYS if name in each]
    if gateways:
        each["gateway"] = sum(gateways) / len(gateways)
    return {f"{key}.{name}": cpu for name, cpu in each.items()}
