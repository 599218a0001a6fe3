"""From the figures of all turns to medians, ratios, a verdict against the goals, Markdown and JSON."""

import json
import statistics

from paths import CROSS, PROXIES, SAME, SAME_CLUSTER, SAME_SUFFIX, SIDECARS

# (what, key, datagram size, path, comparison with Envoy on that path, bound); the goals of the project for this benchmark.
RATIO_GOALS = [
    ("requests/s, 64 connections", "rps64.per_s", 1452, CROSS, ">=", 1.8),
    ("new connections/s", "newconn.per_s", 1452, CROSS, ">=", 6.0),
    ("p50, 1 connection", "rps1.p50_us", 1452, CROSS, "<=", 1.0),
    ("bulk, 8 streams", "bulk8.gbps", 1452, CROSS, ">=", 0.75),
    ("bulk, 8 streams", "bulk8.gbps", 8900, CROSS, ">=", 1.4),
    ("a gateway's CPU per GB", "bulk8.cpu_s_per_gb.gateway", 1452, CROSS, "<=", 0.65),
    ("a gateway's CPU per GB", "bulk8.cpu_s_per_gb.gateway", 8900, CROSS, "<=", 0.35),
    ("requests/s, 64 connections", "rps64.per_s", 1452, SAME, ">=", 1.3),
    ("p50, 1 connection", "rps1.p50_us", 1452, SAME, "<=", 1.15),
    ("new connections/s", "newconn.per_s", 1452, SAME, ">=", 3.0),
]
# (what, keys of which the largest counts, datagram size, bound in KiB); 1 MB is 10^6 bytes.
SIZE_GOALS = [
    ("a gateway with 1,024 connections", [f"connections.gateway_kib.gateway-{c}" for c in ("iad", "phx")], 1452, 24e6 / 1024),
    ("a sidecar, idle", [f"memory.idle_kib.{s}" for s in SIDECARS], 1452, 24e6 / 1024),
    ("an idle stream at a sidecar", [f"memory.per_conn_kib.{s}" for s in SIDECARS], 1452, 8),
    ("an idle connection at a side", [f"connections.per_connection_kib.{s}" for s in ("client", "server")], 1452, 64),
]


def medians(turns):
    """{contestant: {key: median}} of {contestant: [figures of a turn]}; a key that a turn lacks counts where it is."""
    result = {}
    for name, figures in turns.items():
        keys = {key for turn in figures for key in turn}
        result[name] = {key: statistics.median([t[key] for t in figures if key in t]) for key in sorted(keys)}
    return result


def ratios(medians_of):
    """{contestant: {key: Causeway / Envoy}} for every figure that both have and that is not 0 at Envoy."""
    result = {}
    for name, of in medians_of.items():
        if name.startswith("causeway-"):
            envoy = medians_of.get("envoy" + suffix(kind(name)), {})
            result[name] = {k: v / envoy[k] for k, v in of.items() if envoy.get(k)}
    return result


def kind(name):
    """The kind of path that the contestant `name` is on; the client's way to the server without proxies is of the first."""
    return SAME if name.endswith(SAME_SUFFIX) else CROSS


def suffix(of_kind):
    """What names end in on paths of that kind."""
    return SAME_SUFFIX if of_kind == SAME else ""


def goals(medians_of):
    """Each goal with our figure, Envoy's, the ratio and whether it is met; None where a figure is missing."""
    rows = []
    for what, key, size, path, comparison, bound in RATIO_GOALS:
        ours = medians_of.get(f"causeway-{size}{suffix(path)}", {}).get(key)
        envoy = medians_of.get(f"envoy{suffix(path)}", {}).get(key)
        ratio = ours / envoy if ours is not None and envoy else None
        met = None if ratio is None else (ratio >= bound if comparison == ">=" else ratio <= bound)
        row = {"what": what, "path": path, "size": size, "ours": ours, "envoy": envoy, "ratio": ratio}
        rows.append(row | {"goal": f"{comparison} {bound:g}x", "met": met})
    for what, keys, size, bound in SIZE_GOALS:
        found = [medians_of.get(f"causeway-{size}", {}).get(key) for key in keys]
        ours = max((v for v in found if v is not None), default=None)
        row = {"what": f"{what}, KiB", "path": CROSS, "size": size, "ours": ours, "envoy": None, "ratio": None}
        rows.append(row | {"goal": f"< {bound:.0f} KiB", "met": None if ours is None else ours < bound})
    return rows


def write_json(file, machine, turns, failures):
    """Everything, raw figures of every turn included."""
    of = medians(turns)
    document = {"machine": machine, "medians": of, "ratios": ratios(of), "goals": goals(of), "turns": turns, "failures": failures}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n")


def markdown(machine, turns, failures):
    of = medians(turns)
    cross, same = ({name: figures for name, figures in of.items() if kind(name) == k} for k in (CROSS, SAME))
    if same and "direct" in cross:
        same = {"direct": cross["direct"], **same}
    parts = [_machine(machine), _traffic("Traffic", cross), _traffic("Traffic within a cluster", same)]
    parts += [_cpu("CPU time", cross, PROXIES), _cpu("CPU time within a cluster", same, (*SAME_CLUSTER, "gateway-iad"))]
    parts += [_memory("Resident memory", cross, PROXIES), _memory("Resident memory within a cluster", same, SAME_CLUSTER)]
    parts += [_connections(of), _goals(of), _failures(failures)]
    return "\n\n".join(part for part in parts if part)


def _machine(machine):
    return "\n".join(f"- {key}: {value}" for key, value in machine.items())


def _traffic(title, of):
    columns = [
        ("bulk 1, Gbit/s", "bulk1.gbps", 1, 2),
        ("bulk 8, Gbit/s", "bulk8.gbps", 1, 2),
        ("req/s, 64 conns", "rps64.per_s", 1, 0),
        ("p50, ms", "rps64.p50_us", 1e-3, 2),
        ("p99, ms", "rps64.p99_us", 1e-3, 2),
        ("req/s, 1 conn", "rps1.per_s", 1, 0),
        ("p50, us", "rps1.p50_us", 1, 0),
        ("p99, us", "rps1.p99_us", 1, 0),
        ("new conns/s", "newconn.per_s", 1, 0),
        ("p50, ms", "newconn.p50_us", 1e-3, 2),
        ("p99, ms", "newconn.p99_us", 1e-3, 2),
    ]
    columns = [column for column in columns if any(column[1] in figures for figures in of.values())]
    if not columns:
        return ""
    rows = []
    for name, figures in of.items():
        cells = [_number(figures.get(key), scale, digits) for _, key, scale, digits in columns]
        errors = sum(int(figures.get(f"{key}.errors", 0)) for key in ("rps64", "rps1", "newconn"))
        rows.append([name, *cells, str(errors)])
    return _table(title, ["path", *(c[0] for c in columns), "errors"], rows)


def _cpu(title, of, processes):
    who = [*processes, "proxies", *(["gateway"] if processes == PROXIES else []), "ends"]
    head = ["path", "of", *("all proxies" if w == "proxies" else "mean gateway" if w == "gateway" else w for w in who)]
    kinds = [
        ("bulk 1, s/GB", "bulk1.cpu_s_per_gb", 3),
        ("bulk 8, s/GB", "bulk8.cpu_s_per_gb", 3),
        ("64 conns, ms/1,000 req", "rps64.cpu_ms_per_1000", 1),
        ("1 conn, ms/1,000 req", "rps1.cpu_ms_per_1000", 1),
        ("ms/1,000 new conns", "newconn.cpu_ms_per_1000", 1),
    ]
    rows = []
    for label, key, digits in kinds:
        for name, figures in of.items():
            if any(f"{key}.{w}" in figures for w in who):
                rows.append([name, label, *(_number(figures.get(f"{key}.{w}"), 1, digits) for w in who)])
    return _table(title, head, rows)


def _memory(title, of, processes):
    kinds = [
        ("idle, MiB", "memory.idle_kib", 1 / 1024, 1),
        ("1,000 idle connections, MiB", "memory.conns1000_kib", 1 / 1024, 1),
        ("each idle connection, KiB", "memory.per_conn_kib", 1, 1),
    ]
    rows = []
    for label, key, scale, digits in kinds:
        for name, figures in of.items():
            if any(f"{key}.{p}" in figures for p in processes):
                rows.append([name, label, *(_number(figures.get(f"{key}.{p}"), scale, digits) for p in processes)])
    return _table(title, ["path", "of", *processes], rows)


def _connections(of):
    rows = []
    for name, f in of.items():
        if "connections.count" in f:
            gateways = [_number(f[f"connections.gateway_kib.gateway-{c}"], 1 / 1024, 1) for c in ("iad", "phx")]
            sides = [_number(f[f"connections.per_connection_kib.{s}"], 1, 1) for s in ("client", "server")]
            rows.append([name, _number(f["connections.count"], 1, 0), *gateways, *sides])
    head = [
        "path",
        "end-to-end connections",
        "gateway iad, MiB",
        "gateway phx, MiB",
        "each at the client, KiB",
        "each at the server, KiB",
    ]
    return _table("Many end-to-end connections", head, rows)


def _goals(of):
    if not any(name.startswith("causeway-") for name in of):
        return ""
    rows = []
    for g in goals(of):
        met = {True: "yes", False: "**no**", None: "not measured"}[g["met"]]
        figures = [_significant(g[k]) for k in ("ours", "envoy", "ratio")]
        rows.append([g["what"], g["path"], str(g["size"]), *figures, g["goal"], met])
    return _table("Ours against Envoy", ["", "path", "datagrams", "ours", "Envoy", "ratio", "goal", "met"], rows)


def _failures(failures):
    if not failures:
        return ""
    return "## Failed\n\n" + "\n".join(f"- {line.splitlines()[0]}" for line in failures)


def _number(value, scale, digits):
    return "" if value is None else f"{value * scale:,.{digits}f}"


def _significant(value):
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _table(title, head, rows):
    if not rows:
        return ""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return f"## {title}\n\n" + "\n".join(lines)
