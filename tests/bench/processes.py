"""Child processes of the benchmark: start, CPU and memory from /proc, logs, an end that is certain.

Knows nothing of what the processes do. Every child leads a process group of its own and dies with this script, even when
the script is killed.
"""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class BenchError(Exception):
    """Something that the person at the keyboard must know: what failed, with which value, and what to try."""


class Process:
    """One child with its log file. `cpu` and `rss` read /proc, so the children must not fork workers."""

    def __init__(self, name, argv, workdir, env=None):
        self.name = name
        self.log = Path(workdir) / f"{name}.log"
        with open(self.log, "ab") as log:
            self._child = subprocess.Popen(
                [str(a) for a in argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def running(self):
        return self._child.poll() is None

    def cpu(self):
        """User and system time so far in seconds, of all threads, ended ones included."""
        # The command's name may hold spaces: fields are counted from the last closing parenthesis.
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def memory(self):
        """Resident memory in KiB: `rss` with the shared pages of the binary, `anon` without."""
        lines = dict(line.split(":", 1) for line in self._proc("status").splitlines() if ":" in line)
        return {"rss": int(lines["VmRSS"].split()[0]), "anon": int(lines["RssAnon"].split()[0])}

    def _proc(self, file):
        # A zombie still has a stat file; its figures would be an ended process's.
        if not self.running():
            raise BenchError(f"{self.name} ended with code {self._child.returncode}; its last lines:\n{self.tail()}")
        return Path(f"/proc/{self._child.pid}/{file}").read_text()

    def tail(self, lines=15):
        text = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"    {line[:400]}" for line in text[-lines:]) or "    (it logged nothing)"

    def wait(self, seconds):
        """Waits for a child that ends by itself. Whether it did in time."""
        try:
            self._child.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            return False

    def stop(self, grace=3.0):
        """SIGTERM to the group, SIGKILL after `grace` seconds."""
        if not self.running():
            # Its number may be another process's by now.
            return
        for sig in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._child.pid, sig)
            except ProcessLookupError:
                pass
            if self.wait(grace):
                return


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Fleet:
    """The processes of one contestant, stopped together. A context manager."""

    def __init__(self):
        self.processes = {}

    def start(self, name, argv, workdir, env=None):
        self.processes[name] = Process(name, argv, workdir, env)
        return self.processes[name]

    def __getitem__(self, name):
        return self.processes[name]

    def cpu(self):
        return {name: p.cpu() for name, p in self.processes.items()}

    def memory(self):
        return {name: p.memory() for name, p in self.processes.items()}

    def logs(self):
        return "\n".join(f"  {p.name}{'' if p.running() else ' (ended)'}:\n{p.tail()}" for p in self.processes.values())

    def wait_until(self, condition, what, deadline=30.0):
        """Polls until `condition` holds. Past the deadline, or when a process ends, the error carries every log's end."""
        end = time.monotonic() + deadline
        while not condition():
            ended = [p.name for p in self.processes.values() if not p.running()]
            if ended:
                raise BenchError(f"{what}: {', '.join(ended)} ended; last lines of the logs:\n{self.logs()}")
            if time.monotonic() > end:
                raise BenchError(f"{what}: not within {deadline:.0f} s; last lines of the logs:\n{self.logs()}")
            time.sleep(0.05)

    def stop(self):
        for process in reversed(self.processes.values()):
            process.stop()
        self.processes.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def children_cpu():
    """CPU seconds of the children that have ended and were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def raise_file_limit():
    """1,000 idle connections need more than the usual soft limit of 1,024 files; children inherit it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def listening(*addresses):
    """Whether TCP sockets listen at all of `(host, port)`, told without connecting: iperf3 would take that for its client."""
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    found = {fields[1] for fields in lines if fields[3] == "0A"}
    return all("%08X:%04X" % (int.from_bytes(socket.inet_aton(h), "little"), p) in found for h, p in addresses)


def require_free(addresses):
    """Refuses to start beside something that holds one of our TCP ports: we would measure that instead."""
    taken = [f"{host}:{port}" for host, port in addresses if listening((host, port)) or listening(("0.0.0.0", port))]
    if taken:
        raise BenchError(f"{', '.join(taken)} is in use; end what listens there (ss -ltnp), the benchmark's ports are fixed")
