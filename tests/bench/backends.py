"""The servers behind every path: nginx answering 1 KiB from memory, and iperf3."""

import http.client
from pathlib import Path

from processes import BenchError, Fleet, listening, require_free

HOST = "127.0.0.1"
WEB_PORT = 18090
IPERF_PORT = 15290
BODY_BYTES = 1024

# One process without a master: its CPU time is one line of /proc. `return` answers from the configuration in memory.
NGINX = """
daemon off;
master_process off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log stderr error;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {{
        listen {host}:{port} backlog=4096;
        default_type application/octet-stream;
        location / {{ return 200 "{body}"; }}
    }}
}}
"""


class Web(Fleet):
    """nginx, up for the whole run."""

    def __init__(self, workdir):
        super().__init__()
        self.workdir = Path(workdir)

    def up(self):
        require_free([(HOST, WEB_PORT), (HOST, IPERF_PORT)])
        config = self.workdir / "nginx.conf"
        config.write_text(NGINX.format(dir=self.workdir, host=HOST, port=WEB_PORT, body="x" * BODY_BYTES))
        self.start("nginx", ["nginx", "-p", self.workdir, "-c", config, "-e", "stderr"], self.workdir)
        self.wait_until(lambda: answers(HOST, WEB_PORT), f"nginx on {HOST}:{WEB_PORT}", deadline=10)
        return self


class IperfServer(Fleet):
    """iperf3 for exactly one client; a fresh one for each measurement, so that none is still busy with the last."""

    def __init__(self, workdir):
        super().__init__()
        argv = ["iperf3", "-s", "-1", "-B", HOST, "-p", IPERF_PORT]
        self.server = self.start("iperf3-server", argv, workdir)
        self.wait_until(lambda: listening((HOST, IPERF_PORT)), f"iperf3 on {HOST}:{IPERF_PORT}", deadline=10)


def answers(host, port, timeout=2.0):
    """Whether the web server answers there: the whole body, not only a connection."""
    try:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
        connection.request("GET", "/")
        response = connection.getresponse()
        body = response.read()
        connection.close()
    except (OSError, http.client.HTTPException):
        return False
    if response.status == 200 and len(body) != BODY_BYTES:
        raise BenchError(f"{host}:{port} answered {len(body)} bytes instead of {BODY_BYTES}: another server is behind that port")
    return response.status == 200
