#!/usr/bin/env python3
"""The report of the training bench: train-step.md and train-step.html from what compare.py and loss_curves.py wrote.

    python3 bench/report/train_report.py train-step.json [MORE.json ...] [--curves loss-curves.json] --out out

Several results stand beside each other, each with its commit; ratios are within one result. The HTML is one file without
scripts or links to elsewhere; the same files give the same bytes."""

import argparse
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "pytorch")]

import compare
import loss_curves
import make_model
import page
import plots

SERIES = {"engine": 0, "eager": 2, "compile": 3}
MODELS = {"gpt2-medium": "GPT-2 medium", "llama-1b": "Llama 1B", "llama-8b": "Llama 8B"}
# What the project aims at, times Engine's step, for the recorded cases.
TARGETS = {"gpt2-medium": {"eager": 2.8, "compile": 1.6}, "llama-1b": {"eager": 1.9, "compile": 1.35}, "llama-8b": {"eager": 1.6, "compile": 1.3}}
METHOD = ("Processes in alternation on one GPU; a figure is the median over a mode's rounds of the median over its timed steps. Memory is what lies "
          "in tensors at most. MFU: model FLOPs (compare.py says what counts) over the GPU's nominal dense bf16 rate. The first step's time "
          "counts from the start of the process.")


class Training:
    """The cases of one or several results, in order: each a label and per mode its figures."""

    def __init__(self, results, curves=None):
        self.results, self.curves, self.cases, several = results, curves, [], len(results) > 1
        for result in results:
            for name, modes in result["summary"].items():
                case = {"model": name.partition(":")[0], **result["cases"][name]}
                commit = f", {result['about']['commit'][:7]}" if several else ""
                trained = next(r["result"]["trained_parameters"] for r in result["runs"] if r["model"] == name and "result" in r)
                self.cases.append({
                    "label": f"{MODELS.get(case['model'], case['model'])} {case['batch']}×{case['length']}{commit}", "case": case, "modes": modes,
                    "usual": name == case["model"], "flops": compare.model_flops(make_model.SHAPES[case["model"]], case, trained),
                    "peak": compare.peak_of(result["about"]["gpu"].get("name"))})

    def about(self):
        lines = []
        for result in self.results:
            about = result["about"]
            versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
            lines.append(f"{about['gpu'].get('name', 'unknown GPU')}; driver {about['gpu'].get('driver_version', 'unknown')}; {versions}; {about['date']}; "
                         f"commit {about['commit']}. Written by {about['command']}.")
        return [*lines, METHOD]

    @staticmethod
    def value(case, mode, figure):
        r = case["modes"].get(mode)
        if r is None:
            return None
        if figure == "ratio":
            own = case["modes"].get("engine")
            return r["ms_per_step_median"] / own["ms_per_step_median"] if own else None
        if figure == "memory":
            return r["peak_allocated_bytes"] / 1e9
        if figure == "mfu":
            return 100 * case["flops"] / (r["ms_per_step_median"] / 1000) / case["peak"] if case["peak"] else None
        return r[figure]

    def ratios(self, mode):
        return [v for c in self.cases if (v := self.value(c, mode, "ratio")) is not None]

    def plot(self, figure, title, label, unit, log=False, low=None):
        """Dots of one figure by case and mode."""
        rows, values, targets = [], [], False
        for case in self.cases:
            points = [(s, v, f"{compare.LABELS[mode]}: {v:.3g}{unit}") for mode, s in SERIES.items() if (v := self.value(case, mode, figure)) is not None]
            wanted = TARGETS.get(case["case"]["model"], {}) if figure == "ratio" and case["usual"] else {}
            marks = [(v, f"aimed at over {compare.LABELS[m]}: {v:g}") for m, v in wanted.items() if self.value(case, m, figure) is not None]
            if points:
                targets |= bool(marks)
                own = self.value(case, "engine", "ms_per_step_median" if figure == "ratio" else figure)
                rows.append(plots.Row(case["label"], points, marks, "" if own is None else f"Engine {own:.3g}{' ms' if figure == 'ratio' else unit}"))
                values += [v for _, v, _ in points] + [v for v, _ in marks]
        if not rows:
            return ""
        axis = plots.Axis.of(label, values, low=low, log_over=4.0 if log else float("inf"))
        shown = [(s, compare.LABELS[m]) for m, s in SERIES.items() if any(m in c["modes"] for c in self.cases)]
        return plots.legend(shown, "aimed at" if targets else None) + plots.dots(title, rows, axis, left=240, right=130)

    def say_time(self):
        parts = [f"{1 / max(r):.2f} to {1 / min(r):.2f} of {'PEFT’s time' if mode == 'eager' else 'PEFT’s under torch.compile'}"
                 for mode in ("eager", "compile") if (r := self.ratios(mode))]
        return f"A step takes Engine {' and '.join(parts)}." if parts else "Engine alone was measured."

    def say_memory(self):
        shares = [self.value(c, "engine", "memory") / v for c in self.cases if "engine" in c["modes"] and (v := self.value(c, "eager", "memory"))]
        return f"Engine holds {min(shares):.2f} to {max(shares):.2f} of what PEFT holds." if shares else "Engine alone was measured."

    def say_mfu(self):
        values = [v for c in self.cases if (v := self.value(c, "engine", "mfu"))]
        return f"Engine reaches {min(values):.0f} to {max(values):.0f}% of the nominal rate." if values else ""

    def say_first(self):
        values = [v for c in self.cases if (v := self.value(c, "engine", "seconds_to_first_step"))]
        return f"Engine’s first step is done {min(values):.1f} to {max(values):.1f} s after the start, the weights read." if values else ""

    def say_curves(self):
        if not self.curves:
            return ""
        texts = [f"{loss_curves.LABELS[mode]} {d['mean']:.4f} on average and {d['largest']:.4f} at most" for mode, d in self.curves["distance_to_peft"].items()]
        return f"From PEFT’s curve differ {'; '.join(texts)}."

    def curve_plot(self):
        if not self.curves:
            return ""
        title = f"Loss on this repository's text, {self.curves['settings']['model']}"
        return plots.curves(title, self.curves["losses"], loss_curves.LABELS, "step", "loss")

    def sections(self):
        return [("Step time", self.say_time(), self.plot("ratio", "time of a step over Engine’s", "times Engine’s step", "×", log=True, low=1.0)),
                ("Memory", self.say_memory(), self.plot("memory", "memory at most", "GB", " GB", low=0.0)),
                ("Model FLOPs utilization", self.say_mfu(), self.plot("mfu", "MFU", "percent of the nominal bf16 rate", "%", low=0.0)),
                ("First step", self.say_first(), self.plot("seconds_to_first_step", "from the start to the first step", "seconds", " s", log=True)),
                ("Loss", self.say_curves(), self.curve_plot())]

    def tables(self):
        rows = []
        for case in self.cases:
            for mode in SERIES:
                if mode in case["modes"]:
                    r = case["modes"][mode]
                    ratio, mfu = self.value(case, mode, "ratio"), self.value(case, mode, "mfu")
                    rows.append([f"{case['label']}, {case['case']['targets']} r {case['case']['rank']}", compare.LABELS[mode], f"{r['ms_per_step_median']:.2f}",
                                 "" if ratio is None else f"{ratio:.2f}", f"{r['tokens_per_second']:,.0f}", "" if mfu is None else f"{mfu:.1f}%",
                                 f"{r['peak_allocated_bytes'] / 1e9:.2f}", f"{r['seconds_to_first_step']:.1f}"])
        return [("Training steps", ["case", "", "ms a step", "times Engine", "tokens/s", "MFU", "GB", "first step, s"], rows)]

    def problems(self):
        return [f"{r['model']} {compare.LABELS[r['mode']]}, round {r['round']}: {r['error']}" for result in self.results for r in result["runs"] if "error" in r]


def write(files, curves, out):
    """Writes the report of result files."""
    training = Training([json.loads(f.read_text(encoding="utf-8")) for f in files], json.loads(curves.read_text(encoding="utf-8")) if curves else None)
    out.mkdir(parents=True, exist_ok=True)
    sections, tables, problems = training.sections(), training.tables(), training.problems()
    (out / "train-step.md").write_text(page.markdown(training.about(), sections, tables, problems), encoding="utf-8")
    (out / "train-step.html").write_text(
        page.page("Training step: Engine and PEFT", "A LoRA training step: Engine and PEFT", training.about(), sections, "", tables, problems), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", help="what compare.py wrote: train-step.json, sweep.json")
    parser.add_argument("--curves", type=Path, help="what loss_curves.py wrote")
    parser.add_argument("--out", type=Path, help="folder (default: that of the first file)")
    options = parser.parse_args()
    write(options.data, options.curves, options.out or options.data[0].parent)


if __name__ == "__main__":
    main()
