"""The machine: the tools that the benchmark needs, and what must be said beside its figures."""

import os
import platform
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

from processes import BenchError

# Program and the Debian package that brings it.
TOOLS = {"iperf3": "iperf3", "wrk": "wrk", "nginx": "nginx-light", "openssl": "openssl"}


def require_tools(install):
    """Names what is missing with the command that brings it, or, as asked and as root, brings it."""
    missing = _missing()
    if missing and install:
        apt = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        print(f"installing {', '.join(missing)}", file=sys.stderr)
        subprocess.run(["apt-get", "update", "-qq"], stdout=sys.stderr, check=False)
        subprocess.run(apt, stdout=sys.stderr, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, check=False)
        missing = _missing()
    if missing:
        packages = " ".join(missing)
        raise BenchError(f"missing programs; install them with `apt-get install {packages}`, or run with --install as root")


def _missing():
    # Debian keeps nginx in /usr/sbin, which an ordinary user's PATH may lack.
    if "/usr/sbin" not in os.environ["PATH"].split(":"):
        os.environ["PATH"] += ":/usr/sbin"
    return [package for program, package in TOOLS.items() if shutil.which(program) is None]


def describe(arguments, versions):
    """What a reader needs to judge the figures."""
    load = os.getloadavg()[0]
    facts = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{_cpu_model()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB, Linux {platform.release()}",
        "kernel": ", ".join(f"{key.rpartition('.')[2]} {_sysctl(key)}" for key in _SYSCTLS),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "run": arguments,
        "load before the run": f"{load:.2f}",
    }
    if load > 0.5:
        facts["caution"] = "other work was running on this machine: compare nothing but the ratios, and those with care"
    return facts


_SYSCTLS = ("net.ipv4.tcp_congestion_control", "net.core.rmem_max", "net.core.wmem_max")


def _sysctl(key):
    try:
        return Path("/proc/sys", *key.split(".")).read_text().strip()
    except OSError:
        return "?"


def _cpu_model():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory_gib():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
