#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measures egmd and, in the same run, what nobody could beat. Started by scripts/bench.

Each figure is a function that returns Figures. Contenders take turns, each figure is the median of its rounds, and a
ratio is the median of the rounds' ratios, so that a busy moment of the machine hits both sides."""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

GIB = 1 << 30
MIB = 1 << 20
BUS_CONF = """<busconfig>
  <type>system</type>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
  <limit name="max_replies_per_connection">65536</limit>
  <limit name="max_outgoing_bytes">1000000000</limit>
  <limit name="max_outgoing_unix_fds">65536</limit>
  <limit name="max_connections_per_user">1024</limit>
</busconfig>
"""


class Figure:
    """value against goal: pass_if is "<=" or ">=", on the ratio where there is one, else on the value."""

    def __init__(self, name, value, unit, goal=None, pass_if="<=", floor=None, ratio=None, spread=None, note=""):
        self.name, self.value, self.unit, self.goal = name, value, unit, goal
        self.pass_if, self.floor, self.ratio, self.spread, self.note = pass_if, floor, ratio, spread, note

    def passed(self):
        if self.goal is None:
            return None
        judged = self.value if self.ratio is None else self.ratio
        return judged <= self.goal if self.pass_if == "<=" else judged >= self.goal

    def as_dict(self):
        d = {"name": self.name, "value": self.value, "unit": self.unit, "floor": self.floor, "ratio": self.ratio,
             "goal": self.goal, "pass": self.passed(), "better": "lower" if self.pass_if == "<=" else "higher"}
        if self.spread is not None:
            d["spread"] = self.spread
        if self.note:
            d["note"] = self.note
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in d.items()}


def quartiles(values):
    """The middle half, as text."""
    v = sorted(values)
    return f"{v[len(v) // 4]:.3g}..{v[(3 * len(v)) // 4]:.3g}"


def compare(name, unit, ours, floors, goal, pass_if="<=", note=""):
    """One figure of two lists by round."""
    ratios = [a / b for a, b in zip(ours, floors)]
    return Figure(name, statistics.median(ours), unit, goal, pass_if, floor=statistics.median(floors),
                  ratio=statistics.median(ratios), spread=quartiles(ratios), note=note)


def lines(output):
    return [json.loads(l) for l in output.splitlines() if l.startswith("{")]


def of(rows, key, **match):
    return [r[key] for r in rows if all(r[k] == v for k, v in match.items())]


class Bed:
    """A private bus with egmd on it and the bare service beside it, all on one CPU or wherever they like."""

    def __init__(self, bench, sizes, pin=True, watch=False, bare=None):
        self.bench, self.pin, self.watch, self.bare = bench, pin, watch, bare
        self.work = tempfile.mkdtemp(prefix="egmd-bench-", dir=bench.tmp)
        self.address = f"unix:path={self.work}/bus"
        self.children = []
        self.sizes = sizes
        self.egmd = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def start(self):
        with open(f"{self.work}/bus.conf", "w") as f:
            f.write(BUS_CONF.format(path=f"{self.work}/bus"))
        with open(f"{self.work}/regions.json", "w") as f:
            json.dump({"regions": [{"name": name, "size": size, "node": 0, "socket": 0}
                                   for name, size in self.sizes.items()]}, f)
        os.mkdir(f"{self.work}/run")
        self.spawn(["dbus-daemon", f"--config-file={self.work}/bus.conf", "--nofork", "--nopidfile"])
        # The socket is there before anybody listens.
        self.until(lambda: self.has_name("org.freedesktop.DBus"), "the bus")
        self.start_egmd()
        if self.bare is not None:
            self.spawn([self.bench.program("bare-service"), self.address, str(self.bare)])
            self.until(lambda: self.has_name("org.nvidia.EgmBare1"), "the bare service")
        for name, size in self.sizes.items():
            self.until(lambda: self.get(f"region/{name}", "Region", "Free") == size, f"{name} to be free", 300)

    def start_egmd(self):
        env = dict(os.environ, RUNTIME_DIRECTORY=f"{self.work}/run")
        if self.watch:
            env["LD_PRELOAD"] = self.bench.program("loop-watch.so")
            env["EGM_BENCH_LOOP"] = f"{self.work}/loop"
        self.egmd = self.spawn([self.bench.egmd, f"--simulate={self.work}/regions.json", f"--bus={self.address}"],
                               env=env, log="egmd")
        self.until(lambda: self.has_name("org.nvidia.Egm1"), "egmd")

    def __exit__(self, *_):
        for p in reversed(self.children):
            if p.poll() is None:
                p.terminate()
        for p in reversed(self.children):
            try:
                p.wait(20)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        shutil.rmtree(self.work, ignore_errors=True)

    def command(self, argv):
        return (["taskset", "-c", "0"] if self.pin else []) + argv

    def spawn(self, argv, log=None, **kwargs):
        with open(f"{self.work}/{log or os.path.basename(argv[0])}.log", "ab") as f:
            p = subprocess.Popen(self.command(argv), stderr=f, **kwargs)
        self.children.append(p)
        return p

    def until(self, condition, what, seconds=60):
        deadline = time.monotonic() + seconds
        while not condition():
            if self.egmd and self.egmd.poll() is not None:
                with open(f"{self.work}/egmd.log") as f:
                    raise RuntimeError(f"egmd ended: {f.read()[-2000:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited in vain for {what}")
            time.sleep(0.005)

    def busctl(self, *args):
        p = subprocess.run(["busctl", f"--address={self.address}", "--json=short", *args], capture_output=True,
                           text=True, timeout=240)
        return json.loads(p.stdout)["data"] if p.returncode == 0 and p.stdout else None

    def has_name(self, name):
        r = self.busctl("call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "NameHasOwner", "s", name)
        return bool(r and r[0])

    def get(self, path, interface, name):
        return self.busctl("get-property", "org.nvidia.Egm1", f"/org/nvidia/Egm1/{path}".rstrip("/"),
                           f"org.nvidia.Egm1.{interface}", name)

    def calls(self, *args, **kwargs):
        p = subprocess.run(self.command([self.bench.program("bench-calls"), self.address, *map(str, args)]),
                           stdout=subprocess.PIPE, text=True, timeout=600, check=True, **kwargs)
        return lines(p.stdout)

    def calls_start(self, *args):
        p = subprocess.Popen(self.command([self.bench.program("bench-calls"), self.address, *map(str, args)]),
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.children.append(p)
        return p

    def egmctl(self, *args):
        t = time.monotonic()
        p = subprocess.run(self.command([self.bench.egmctl, f"--bus={self.address}", *args]), capture_output=True,
                           check=True, timeout=120)
        return time.monotonic() - t, p.stdout

    def status(self, key):
        """KiB of /proc/PID/status."""
        with open(f"/proc/{self.egmd.pid}/status") as f:
            return next(int(l.split()[1]) for l in f if l.startswith(key + ":"))

    def rollup(self, key):
        with open(f"/proc/{self.egmd.pid}/smaps_rollup") as f:
            return next(int(l.split()[1]) for l in f if l.startswith(key + ":"))

    def switches(self):
        n = 0
        for task in os.listdir(f"/proc/{self.egmd.pid}/task"):
            try:
                with open(f"/proc/{self.egmd.pid}/task/{task}/status") as f:
                    n += next(int(l.split()[1]) for l in f if l.startswith("voluntary_ctxt_switches"))
            except (FileNotFoundError, ProcessLookupError):
                pass  # a thread that ended meanwhile
        return n

    def loop(self):
        """Longest turn of egmd's loop so far, ms, how many took more than 10 ms, and the most, in ms, that a turn stood
        still with its whole CPU; starts anew."""
        with open(f"{self.work}/loop", "r+b") as f:
            data = f.read(32)
            f.seek(8)
            f.write(bytes(24))
        words = [int.from_bytes(data[i:i + 8], "little") for i in range(0, 32, 8)]
        return words[1] / 1e6, words[2], words[3] / 1e6


class Bench:
    def __init__(self, build, short):
        self.build, self.short = build, short
        self.egmd = f"{build}/src/egmd/egmd"
        self.egmctl = f"{build}/src/egmctl/egmctl"
        # The daemon's state belongs on a tmpfs.
        self.tmp = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.rounds = 5 if short else 9

    def program(self, name):
        return f"{self.build}/tests/bench/{name}"

    def run(self, name, *args):
        p = subprocess.run([self.program(name), *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                           text=True, timeout=900, check=True)
        return lines(p.stdout)

    # ---- zeroing ----

    def scrub(self, threads):
        size = min(4 * GIB, memory_for_us()) if not self.short else 512 * MIB
        # A round takes a third of a second, and what neighbours of the host do to the memory shows in single ones.
        rows = self.run("bench-scrub", "rate", size, threads, 3 * self.rounds)
        rate = {who: of(rows, "gibs", who=who) for who in ("egmd", "bare", "memset")}
        return [compare(f"scrub.{threads}t", "GiB/s", rate["egmd"], rate["bare"], 0.95, ">=",
                        f"{size // MIB} MiB; floor: bare loop"),
                compare(f"scrub.{threads}t.memset", "GiB/s", rate["egmd"], rate["memset"],
                        1.8 if os.uname().machine == "x86_64" else None, ">=", "floor: memset, 4 MiB calls")]

    def scrub_1t(self):
        return self.scrub(1)

    def scrub_2t(self):
        return self.scrub(2)

    def reclaim(self):
        """The driver's way is to clear the whole region, in one thread: 16 times a slice with memset."""
        slice_size = 128 * MIB if self.short else GIB
        n = min(16, memory_for_us(4 * GIB) // slice_size)
        ours, bare, driver = [], [], []
        with Bed(self, {"egm4": n * slice_size}, pin=False) as bed:
            for _ in range(self.rounds):
                ours += of(bed.calls("reclaim", 1, "egm4", slice_size, 1), "ms", what="reclaim")
                rows = self.run("bench-scrub", "rate", slice_size, 1, 1)
                bare += of(rows, "ms", who="bare")
                driver += [16 * ms for ms in of(rows, "ms", who="memset")]
        over = [a - b for a, b in zip(ours, bare)]
        return [compare("reclaim", "ms", ours, driver, round(1 / (16 * 1.7), 4), "<=",
                        f"{slice_size // MIB} MiB of {n * slice_size // MIB}, somebody waits; "
                        "floor: memset of 16 slices"),
                Figure("reclaim.overhead", statistics.median(over), "ms", 2.0, spread=quartiles(over),
                       note=f"beyond a bare loop's {statistics.median(bare):.1f} ms; "
                            f"{n_processes()} processes")]

    # ---- calls ----

    def acquire(self):
        n = 100 if self.short else 200
        with Bed(self, {"egm4": 256 * MIB}, bare=6) as bed:
            rows = bed.calls("turns", 2 * self.rounds, n, "egmd", "bare")
            crowd = bed.calls("clients", self.rounds, 4 * n, 64, "egmd", "bare")
        figures = []
        for what, key, goal in (("acquire", "p50", 1.3), ("acquire", "p99", 1.5), ("release", "p50", 1.3)):
            figures.append(compare(f"{what}.{key}", "us", of(rows, key, who="egmd", what=what),
                                   of(rows, key, who="bare", what=what), goal, "<=", "floor: bare sd-bus service"))
        figures.append(compare("acquire.64clients", "1/s", of(crowd, "rate", who="egmd"),
                               of(crowd, "rate", who="bare"), 0.7, ">="))
        return figures

    # ---- scale ----

    def scale_acquire(self):
        """The same daemon with few leases and with many, the bare service measured each time to tell the machine's mood."""
        n_leases, n = (2000 if self.short else 10000), 200
        few, many = [], []
        with Bed(self, {"egm4": 1 * GIB}, bare=6) as a, Bed(self, {"egm4": 1 * GIB}, bare=6) as b:
            a.calls("fill", 10)
            b.calls("fill", n_leases)
            for i in range(self.rounds):
                for bed, times in ((a, few), (b, many)) if i % 2 == 0 else ((b, many), (a, few)):
                    times += of(bed.calls("turns", 1, n, "egmd"), "p50", what="acquire")
        return [compare("scale.acquire", "us", many, few, 1.15, "<=", f"{n_leases} leases; floor: 10 leases")]

    def scale_map(self):
        rows = self.run("bench-map", 100000, self.rounds, 20000 if self.short else 50000)
        return [compare("scale.map", "us", of(rows, "us", who="many"), of(rows, "us", who="few"), 4, "<=",
                        "100,000 extents; floor: 10 extents")]

    def scale_status(self):
        n_leases = 2000 if self.short else 10000
        with Bed(self, {"egm4": 1 * GIB}, pin=False) as bed:
            bed.calls("fill", n_leases)
            times = []
            for _ in range(5):
                seconds, out = bed.egmctl("status", "--json=short")
                times.append(seconds)
                if out.count(b'"bench"') < n_leases:
                    raise RuntimeError("status does not show all leases")
        return [Figure("scale.status", statistics.median(times), "s", 1.0, spread=quartiles(times),
                       note=f"{n_leases} leases")]

    def scale_restart(self):
        n_leases = 2000 if self.short else 10000
        times = []
        with Bed(self, {"egm4": 1 * GIB}, pin=False) as bed:
            bed.calls("fill", n_leases)
            for _ in range(3):
                bed.egmd.send_signal(signal.SIGKILL)
                bed.egmd.wait()
                t = time.monotonic()
                bed.start_egmd()
                while bed.get("", "Manager", "LeaseCount") != n_leases:
                    if time.monotonic() - t > 20:
                        return [Figure("scale.restart", float(bed.get("", "Manager", "LeaseCount") or 0), "leases",
                                       n_leases, ">=", note="leases that are there after a restart")]
                    time.sleep(0.02)
                times.append(time.monotonic() - t)
        return [Figure("scale.restart", statistics.median(times), "s", 2.0, spread=quartiles(times),
                       note=f"{n_leases} leases, killed, started, all there")]

    def scale_loop(self):
        """The longest turn of the event loop in each part of a busy life."""
        n_leases = 2000 if self.short else 10000
        parts = {}
        over = stolen = 0

        def part(name):
            nonlocal over, stolen
            parts[name], n, lost = bed.loop()
            over += n
            stolen = max(stolen, lost)

        with Bed(self, {"egm4": 1 * GIB, "egm5": 1 * GIB}, pin=False, watch=True) as bed:
            part("start")
            bed.calls("fill", n_leases)
            part("acquire")
            bed.egmctl("status", "--json=short")
            part("status")
            churn = bed.calls_start("churn", "egm5", GIB // 2)
            ping = bed.calls_start("ping")
            time.sleep(1 if self.short else 3)
            for p in (churn, ping):
                p.stdin.close()
            pings = lines(ping.stdout.read())
            for p in (churn, ping):
                p.wait(300)
            part("scrub")
            bed.calls("drop")
            part("release")
        worst = max(parts.values())
        return [Figure("scale.loop", worst, "ms", 10.0, note=f"{n_leases} leases; {over} turns over 10 ms; " +
                       ", ".join(f"{k} {v:.1f}" for k, v in parts.items()) +
                       f"; without up to {stolen:.1f} ms in a turn for which the CPU was not ours"),
                Figure("scale.loop.ping", pings[0]["p99"], "us", note="p99 of Peer.Ping beside a scrub")]

    # ---- neighbours ----

    def neighbour_scrub(self):
        if len(os.sched_getaffinity(0)) < 2:
            return []
        rows = self.run("bench-scrub", "neighbour", 512 * MIB if self.short else GIB, self.rounds)
        gibs = statistics.median(of(rows, "gibs", what="beside"))
        return [compare("neighbour.scrub", "us", of(rows, "us", what="beside"), of(rows, "us", what="alone"), 1.4,
                        "<=", f"8 MiB read; scrub at {gibs:.1f} GiB/s; floor: alone")]

    def neighbour_acquire(self):
        n = 300 if self.short else 1000
        idle, busy = [], []
        with Bed(self, {"egm4": 512 * MIB, "egm5": GIB}) as bed:
            for _ in range(self.rounds):
                idle += of(bed.calls("turns", 1, n, "egmd"), "p99", what="acquire")
                churn = bed.calls_start("churn", "egm5", GIB // 2)
                time.sleep(0.1)
                busy += of(bed.calls("turns", 1, n, "egmd"), "p99", what="acquire")
                churn.stdin.close()
                churn.wait(300)
                bed.until(lambda: bed.get("", "Manager", "LeaseCount") == 0 and
                          bed.get("region/egm5", "Region", "Free") == GIB, "the scrub", 120)
        return [compare("neighbour.acquire", "us", busy, idle, 1.3, "<=", "p99 on the same core; floor: idle")]

    # ---- footprint ----

    def footprint(self):
        n_leases = 2000 if self.short else 10000
        seconds = 3 if self.short else 10
        figures = []
        with Bed(self, {"egm4": 1 * GIB}, pin=False) as bed:
            time.sleep(0.5)
            figures.append(Figure("footprint.rss", bed.rollup("Rss") / 1024, "MiB", 5.0, note="idle"))
            figures.append(Figure("footprint.private", bed.rollup("Private_Dirty") / 1024, "MiB", 1.0, note="idle"))
            before = bed.switches()
            time.sleep(seconds)
            figures.append(Figure("footprint.wakeups", bed.switches() - before, "", 0, note=f"in {seconds} s"))
            rss = bed.rollup("Rss")
            bed.calls("fill", n_leases)
            bed.until(lambda: bed.get("", "Manager", "LeaseCount") == n_leases, "leases")
            figures.append(Figure("footprint.lease", (bed.rollup("Rss") - rss) / n_leases, "KiB", 1.5,
                                  note=f"of {n_leases}"))
        size = min(4 * GIB, memory_for_us()) if not self.short else GIB
        with Bed(self, {"egm4": size}, pin=False) as bed:
            idle, most = bed.status("VmPTE"), 0
            churn = bed.calls_start("churn", "egm4", size)
            deadline = time.monotonic() + (1 if self.short else 3)
            while time.monotonic() < deadline:
                most = max(most, bed.status("VmPTE"))
                time.sleep(0.001)
            churn.stdin.close()
            churn.wait(300)
            figures.append(Figure("footprint.tables", most / 1024, "MiB", 8.0,
                                  note=f"scrubbing {size // MIB} MiB; {idle} KiB when idle"))
        figures.append(self.start_up())
        return figures

    def start_up(self):
        """From exec to the name on the bus, as the bus tells it."""
        times, bare = [], []
        with Bed(self, {"egm4": 64 * MIB}, pin=False) as bed:
            bed.egmd.terminate()
            bed.egmd.wait()
            for _ in range(2 * self.rounds):
                for ours, argv in ((times, [self.egmd, f"--simulate={bed.work}/regions.json",
                                            f"--bus={bed.address}"]),
                                   (bare, [self.program("bare-service"), bed.address, "0"])):
                    rows = lines(subprocess.run([self.program("bench-start"), bed.address, *argv],
                                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                                timeout=60, check=True).stdout)
                    ours.append(rows[0]["ms"])
            bed.egmd = None
        return Figure("footprint.start", statistics.median(times), "ms", 5.0, floor=statistics.median(bare),
                      spread=quartiles(times), note="exec to name; floor: bare service")

    # ---- the gate ----

    def enforce(self):
        """In the test VM, whose clock counts instructions for this; it takes minutes to boot and to restart egmd in."""
        if self.short:
            print("enforce: left out of --short, as it boots a virtual machine", file=sys.stderr)
            return []
        top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        p = subprocess.run([f"{top}/scripts/test-vm", "--bench", "--case=gate", "--jobs=1"], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, timeout=1800)
        if p.returncode != 0:
            print(f"enforce: left out, as there is no run in the test VM:\n{p.stdout}", file=sys.stderr)
            return []
        with open(f"{top}/build-vm/boot-1/files/gate.json") as f:
            rows = lines(f.read())
        with_gate, without = ({what: of(rows, "p50", who=who, what=what)
                               for what in ("anonymous", "file", "egm", "fork")} for who in ("enforced", "cooperative"))
        note = "1000 instructions; floor: without the gate"
        figures = [compare(f"enforce.{what}", "us", with_gate[what], without[what], goal, "<=", note)
                   for what, goal in (("anonymous", 1.02), ("file", 1.02), ("fork", None))]
        over = [a - b for a, b in zip(with_gate["egm"], without["egm"])]
        figures.append(Figure("enforce.egm", statistics.median(over), "us", 1.0, spread=quartiles(over),
                              note=f"beyond {statistics.median(without['egm']):.1f} us without the gate"))
        return figures

    def figures(self):
        """In the order of the table."""
        return {"scrub.1t": self.scrub_1t, "scrub.2t": self.scrub_2t, "reclaim": self.reclaim,
                "acquire": self.acquire, "scale.acquire": self.scale_acquire, "scale.map": self.scale_map,
                "scale.status": self.scale_status, "scale.restart": self.scale_restart,
                "scale.loop": self.scale_loop, "neighbour.scrub": self.neighbour_scrub,
                "neighbour.acquire": self.neighbour_acquire, "footprint": self.footprint,
                "enforce": self.enforce}


def memory_for_us(spare=None):
    """Bytes that simulated regions may have, in GiB: all but those to spare, or else not more than half of what is there."""
    with open("/proc/meminfo") as f:
        there = 1024 * next(int(l.split()[1]) for l in f if l.startswith("MemAvailable:"))
    return max((there // 2 if spare is None else there - spare) // GIB, 1) * GIB


def n_processes():
    return sum(n.isdigit() for n in os.listdir("/proc"))


def print_table(figures):
    rows = [("FIGURE", "VALUE", "", "FLOOR", "RATIO", "(HALF OF ALL)", "GOAL", "", "")]
    for f in figures:
        number = lambda v: "" if v is None else f"{v:.3g}" if abs(v) < 1000 else f"{v:.0f}"
        passed = {None: "", True: "ok", False: "MISSED"}[f.passed()]
        rows.append((f.name, number(f.value), f.unit, number(f.floor), number(f.ratio), f.spread or "",
                     "" if f.goal is None else f"{f.pass_if} {number(f.goal)}", passed, f.note))
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for r in rows:
        print("  ".join(c.rjust(w) if i in (1, 3, 4) else c.ljust(w)
                        for i, (c, w) in enumerate(zip(r, widths))).rstrip())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--only", action="append", metavar="NAME")
    args = parser.parse_args()
    bench = Bench(args.build, args.short)
    known = bench.figures()
    chosen = [n for n in known if not args.only or any(n == o or n.startswith(o + ".") or o.startswith(n + ".")
                                                       for o in args.only)]
    if not chosen:
        parser.error(f"no such figure; there are: {' '.join(known)}")
    results = []
    for name in chosen:
        t = time.monotonic()
        results += known[name]()
        print(f"{name}: {time.monotonic() - t:.1f} s", file=sys.stderr)
    if args.json:
        print(json.dumps([f.as_dict() for f in results], indent=1))
    else:
        print_table(results)
    missed = [f.name for f in results if f.passed() is False]
    if args.strict and missed:
        print(f"missed: {' '.join(missed)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
