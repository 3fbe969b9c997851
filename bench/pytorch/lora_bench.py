#!/usr/bin/env python3
"""The LoRA bench: Engine and PyTorch in turns on one GPU, in one session; JSON, tables and a report with plots.

    python3 bench/pytorch/lora_bench.py --engine bundle/engine --out out

Shape by shape, first Engine measures ("engine bench lora") and then PyTorch (lora_linear.py, one process for the session),
and all of that --rounds times. A ratio is a candidate's time over that of the bare product (for a merge: of the copy) of the
same side, case and round; a figure is the median over all rounds. What no longer fits into --limit is left out and named.
Writes OUT/lora-linear.json, OUT/lora-linear.md and OUT/lora-linear.html; the processes' logs go to WORK. --ops FILE takes
what "engine bench op --op all --json FILE" wrote into the report, as the kernels' share of the GPU's limits."""

import argparse
import datetime
import json
import queue
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "report"))

import compare
import lora_linear
import lora_report

CASE = ("kind", "rows", "inputs", "outputs", "rank", "adapters", "mode")


class Worker:
    """PyTorch's process: a line of JSON in, a line of JSON out."""

    def __init__(self, options):
        self.log = open(options.work / "lora-torch.log", "w", encoding="utf-8")
        self.process = subprocess.Popen(
            [options.python, str(HERE / "lora_linear.py"), "--serve", "--compile-seconds", str(options.compile_seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()
        self.failure, self.about, self.compile_seconds = None, {}, {}

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def answer(self, seconds):
        """The next line, or what went wrong; after an answer that did not come the process is given up."""
        try:
            line = self.lines.get(timeout=max(seconds, 1))
            value = json.loads(line) if line else {"error": "PyTorch's process ended; see lora-torch.log"}
        except queue.Empty:
            value = {"error": f"no answer from PyTorch within {seconds:.0f} s"}
            line = None
        except ValueError as error:
            value = {"error": f"PyTorch's process wrote something else: {error}"}
        if line is None:
            self.failure = value["error"]
            self.close()
        return value

    def ask(self, request, seconds):
        if self.failure:
            return {"error": self.failure}
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except OSError as error:
            self.failure = f"PyTorch's process is gone: {error}"
            return {"error": self.failure}
        value = self.answer(seconds)
        self.compile_seconds = value.get("compile_seconds", self.compile_seconds)
        return value

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()


def engine(options, request, label, seconds):
    """One run of Engine's bench: its result, or what went wrong."""
    result, log = options.work / f"{label}.json", options.work / f"{label}.log"
    result.unlink(missing_ok=True)
    arguments = [options.engine, "bench", "lora", "--device", options.device, "--kind", request["kind"], "--dtype", "bf16",
                 "--shapes", ",".join(request["shapes"]), "--ranks", ",".join(map(str, request["ranks"])),
                 "--rounds", str(request["rounds"]), "--samples", str(request["samples"]), "--json", str(result)]
    with open(log, "w", encoding="utf-8") as output:
        try:
            code = subprocess.run(arguments, stdout=output, stderr=subprocess.STDOUT, timeout=max(seconds, 1)).returncode
        except subprocess.TimeoutExpired:
            code = f"none after {seconds:.0f} s"
        except OSError as error:
            code = str(error)
    try:
        return json.loads(result.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return {"error": f"exit code {code}; last line: {lines[-1] if lines else 'none'}"}


class Collection:
    """Every case's figures, of both sides and all rounds."""

    def __init__(self):
        self.cases = {}

    def add(self, side, cases):
        for case in cases:
            own = self.cases.setdefault(tuple(case[f] for f in CASE), {})
            bare = case["results"][0]
            for result in case["results"]:
                kept = own.setdefault((side, result["name"]), {"us": [], "ratios": [], "least": [], "passes": result["passes"],
                                                               "baseline": bare["name"], "failure": None})
                kept["failure"] = result.get("failure", kept["failure"])
                kept["us"] += result["us_of_rounds"]
                kept["ratios"] += [a / b for a, b in zip(result["us_of_rounds"], bare["us_of_rounds"])]
                kept["least"] += [result["us_min"]] if result["us_min"] is not None else []

    def result(self):
        def entry(side, name, kept):
            figures = {"side": side, "name": name, "baseline": kept["baseline"], "passes": kept["passes"]}
            if kept["us"]:
                figures |= {"us_median": round(statistics.median(kept["us"]), 3), "us_min": round(min(kept["least"]), 3),
                            "us_of_rounds": [round(t, 3) for t in kept["us"]]}
            if kept["ratios"]:
                figures |= {"ratio_median": round(statistics.median(kept["ratios"]), 4),
                            "ratio_of_rounds": [round(r, 4) for r in kept["ratios"]]}
            return figures | ({"failure": kept["failure"]} if kept["failure"] else {})

        return [{**dict(zip(CASE, case)), "results": [entry(*key, kept) for key, kept in results.items()]}
                for case, results in self.cases.items()]


def requests(options):
    """What one round measures, a shape at a time: small answers, and both sides soon after each other."""
    for kind in options.kinds.split(","):
        shapes = (options.shapes if kind == "linear" and options.shapes else lora_linear.SHAPES[kind]).split(",")
        ranks = (options.ranks if kind == "linear" and options.ranks else lora_linear.RANKS[kind]).split(",")
        for shape in shapes:
            yield {"kind": kind, "shapes": [shape], "ranks": [int(r) for r in ranks], "rounds": options.turns, "samples": options.samples}


def session(options):
    """Runs everything; the merged cases and what ran."""
    began, collection, runs, about = time.monotonic(), Collection(), [], {}

    def left():
        return options.limit - (time.monotonic() - began)

    worker = Worker(options) if not options.engine_only else None
    if worker:
        worker.about = worker.answer(min(120, left()))
    for round_ in range(1, options.rounds + 1):
        for request in requests(options):
            label = f"{request['kind']} {request['shapes'][0]}"
            for side in ("engine", "torch") if worker else ("engine",):
                run = {"round": round_, "case": label, "side": side}
                runs.append(run)
                if left() < 5:
                    run["skipped"] = f"no time left of {options.limit} s"
                    continue
                begin = time.monotonic()
                if side == "engine":
                    name = f"lora-{label.replace(' ', '-')}-{round_}"
                    answer = engine(options, request, name, min(options.timeout, left()))
                    about.setdefault("engine", answer.get("engine"))
                else:
                    answer = worker.ask(request, min(options.timeout, left()))
                run["seconds"] = round(time.monotonic() - begin, 1)
                if "error" in answer:
                    run["error"] = answer["error"]
                else:
                    collection.add(side, answer["cases"])
                print(f"round {round_}, {label}, {side}: {run.get('error', 'ok')} ({run['seconds']} s)", flush=True)
    if worker:
        worker.close()
        about |= {"versions": worker.about.get("versions", {}), "compile_seconds": worker.compile_seconds}
    return collection.result(), runs, about, time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="engine", help="the program")
    parser.add_argument("--python", default=sys.executable, help="the Python that has torch and peft")
    parser.add_argument("--device", default="cuda", help="Engine's device")
    parser.add_argument("--kinds", default="linear,merge,mixed")
    parser.add_argument("--shapes", help="of the linear layers, such as 8192x4096x4096,16x4096x4096")
    parser.add_argument("--ranks", help="of the linear layers")
    parser.add_argument("--rounds", type=int, default=2, help="how often the two sides take turns")
    parser.add_argument("--turns", type=int, default=3, help="how often a side's candidates take turns within a round")
    parser.add_argument("--samples", type=int, default=4, help="samples of each candidate in a turn")
    parser.add_argument("--limit", type=float, default=270, help="seconds for everything")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one run")
    parser.add_argument("--compile-seconds", type=float, default=lora_linear.COMPILE_SECONDS, help="no new shape is compiled after them")
    parser.add_argument("--engine-only", action="store_true", help="without PyTorch")
    parser.add_argument("--ops", type=Path, help='what "engine bench op --op all --json" wrote, for the report')
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--work", type=Path, default=Path("out/work"))
    parser.add_argument("--commit", default="unknown")
    options = parser.parse_args()
    unknown = set(options.kinds.split(",")) - set(lora_linear.SHAPES)
    if unknown:
        parser.error(f"unknown kind {', '.join(sorted(unknown))}; kinds are {', '.join(lora_linear.SHAPES)}")
    options.out.mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    cases, runs, about, seconds = session(options)
    report = {
        "about": {
            "gpu": compare.gpu(), "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "commit": options.commit, **about, "seconds": round(seconds, 1),
            "command": f"bench/pytorch/lora_bench.py --rounds {options.rounds} --turns {options.turns} --samples {options.samples}",
            "samples_of_each": options.rounds * options.turns * options.samples,
            "compiled": f"torch.compile: ranks {lora_linear.COMPILED['ranks']}, {lora_linear.COMPILED['least_rows']} rows or more, "
                        f"no new shape after {options.compile_seconds:.0f} s of compiling",
        },
        "cases": cases, "runs": runs,
    }
    data = options.out / "lora-linear.json"
    data.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    lora_report.write(data, options.ops if options.ops and options.ops.exists() else None, options.out)
    print(f"{data}, lora-linear.md and lora-linear.html after {seconds:.0f} s", flush=True)
    wrong = [r for r in runs if "error" in r or "skipped" in r]
    for run in wrong:
        print(f"round {run['round']}, {run['case']}, {run['side']}: {run.get('error', run.get('skipped'))}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
