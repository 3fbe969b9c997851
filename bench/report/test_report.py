#!/usr/bin/env python3
"""Tests of the reports, on figures that are made up:    python3 bench/report/test_report.py"""

import copy
import html
import html.parser
import json
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import lora_report
import plots
from lora_figures import BOTH, FORWARD, Figures

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "pytorch"))
import compare  # noqa: E402
import loss_curves  # noqa: E402
import make_model  # noqa: E402
import train_report  # noqa: E402

SHAPES = [(8192, 1024, 1024), (8192, 4096, 4096), (8192, 4096, 14336), (8192, 14336, 4096), (2048, 4096, 4096), (16, 4096, 4096), (1, 4096, 4096)]


def result(side, name, us, ratio, passes=1):
    return {"side": side, "name": name, "baseline": "bare", "passes": passes, "us_median": us, "us_min": us * 0.98, "ratio_median": ratio,
            "us_of_rounds": [us] * 6, "ratio_of_rounds": [ratio] * 6}


def case(kind, rows, inputs, outputs, rank, mode, base, ratios, adapters=1):
    us = {"merge": 4e-6 * inputs * outputs / 4.1}.get(kind) or max(12, 2e-6 * rows * inputs * outputs / 750) * (2 if mode == BOTH else 1)
    return {"kind": kind, "rows": rows, "inputs": inputs, "outputs": outputs, "rank": rank, "adapters": adapters, "mode": mode,
            "results": [result(s, base, us, 1) for s in ("engine", "torch")] + [result(*key, us * r, r) for key, r in ratios.items()]}


def fixture():
    """A result file with every kind of figure in it."""
    cases = []
    for m, k, n in SHAPES:
        for mode in (FORWARD, BOTH):
            for rank in (1, 8, 16, 64, 256):
                cost = 1 + 40 / (k + n) * (1 + rank / 150)
                ratios = {("engine", "two-products"): 1 + 6 * (cost - 1), ("engine", "engine"): cost, ("torch", "PEFT"): 1 + 40 * (cost - 1) + 200 / m,
                          ("torch", "PEFT graph"): 1 + 20 * (cost - 1), ("torch", "addmm graph"): 1 + 9 * (cost - 1)}
                if rank == 16 and m >= 2048:
                    ratios |= {("torch", "compile"): 1 + 16 * (cost - 1), ("torch", "compile graph"): 1 + 15 * (cost - 1)}
                cases.append(case("linear", m, k, n, rank, mode, "bare", ratios))
    for n, k in ((4096, 4096), (14336, 4096), (8192, 28672)):
        for rank in (8, 64):
            cases.append(case("merge", 0, k, n, rank, "merge", "copy", {
                ("engine", "merge"): 1.05 + rank / 900, ("engine", "exact merge"): 1.4, ("torch", "addmm_"): 1.5, ("torch", "PEFT"): 3.6}))
    for adapters in (64, 8):
        cases.append(case("mixed", 64, 4096, 4096, 16, FORWARD, "bare", {
            ("engine", "grouped"): 1.2 + adapters / 10, ("torch", "PEFT"): 6.0 * adapters, ("torch", "bmm graph"): 2.1}, adapters))
    about = {"gpu": {"name": "Made-up GPU", "driver_version": "1.2"}, "date": "2026-01-02T03:04:05+00:00", "commit": "abc", "samples_of_each": 24,
             "versions": {"torch": "2.11"}, "command": "bench/pytorch/lora_bench.py"}
    return {"about": about, "cases": cases, "runs": [{"round": 1, "case": "linear 1x1x1", "side": "torch", "error": "said <no>"}]}


def ops():
    rows = [("rmsnorm", 4e9 * 0.9, 8e7), ("copy", 4e9, 0), ("matmul", 3e8, 6.9e11), ("attention", 1e8, 3.2e11)]
    return {"copy_bytes_per_second": 4.1e12, "matmul_flops_per_second": 7.4e14, "results": [
        {"op": op, "case": f"{op}[1, 2]", "bytes": 1, "flops": 1, "microseconds_median": 20.0, "bytes_per_second": b * 1e3, "flops_per_second": f * 1e3,
         "share_of_copy": b * 1e3 / 4.1e12, "share_of_matmul": f * 1e3 / 7.4e14} for op, b, f in rows]
        + [{"op": "gone", "case": "gone", "microseconds_median": None, "share_of_copy": None, "share_of_matmul": None, "failure": "no"}]}


class Page(html.parser.HTMLParser):
    """Checks that elements are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.titles = [], 0

    def handle_starttag(self, tag, attrs):
        self.titles += tag == "title"
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


class TrainingTests(unittest.TestCase):
    def test_a_case_names_a_model_and_may_name_a_size(self):
        self.assertEqual((8, 1024, 16), tuple(compare.case_of("llama-1b")[k] for k in ("batch", "length", "rank")))
        self.assertEqual((2, 4096), tuple(compare.case_of("llama-1b:2x4096")[k] for k in ("batch", "length")))
        for wrong, says in (("llama-2b", "models are"), ("llama-1b:8", "such as llama-1b:8x128"), ("llama-1b:0x128", "batch and length")):
            with self.assertRaisesRegex(ValueError, says):
                compare.case_of(wrong)

    def test_model_flops_are_those_of_the_shape(self):
        # Llama 1B: 973 million weights in 16 layers, 262.7 million in the head.
        case = {**compare.case_of("llama-1b"), "batch": 1, "length": 2}
        expected = 2 * (4 * (973_078_528 + 262_668_288) + 6 * 11_272_192) + 6 * 16 * 4 * 2048
        self.assertEqual(expected, compare.model_flops(make_model.SHAPES["llama-1b"], case, 11_272_192))

    def test_a_gpu_is_known_by_its_name(self):
        for name, rate in (("NVIDIA H200", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA A100-SXM4-80GB", 312e12),
                           ("NVIDIA A1000", None), ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None), (None, None)):
            self.assertEqual(rate, compare.peak_of(name), name)

    def test_distances_of_curves(self):
        d = loss_curves.distance([3.0, 2.0, 1.0], [3.0, 2.5, 0.75])
        self.assertEqual({"largest": 0.5, "mean": 0.25, "last_tenth": 0.25}, d)
        self.assertEqual([8, 8], [len(row) for row in loss_curves.text_rows(2, 8)])


def training(modes=("engine", "eager", "compile")):
    """A result of compare.py with made-up figures."""
    runs, scale = [], {"engine": 1.0, "eager": 2.7, "compile": 1.5}
    for name in ("gpt2-medium", "llama-1b", "llama-1b:8x128"):
        for mode in modes:
            ms = 40 * scale[mode]
            runs.append({"model": name, "mode": mode, "round": 1, "result": {
                "ms_per_step_median": ms, "tokens_per_second": 8e6 / ms, "peak_allocated_bytes": 6e9 * scale[mode], "peak_reserved_bytes": 7e9,
                "seconds_to_first_step": 2 * scale[mode] ** 3, "losses": [11.0, 10.5], "trained_parameters": 1000}})
    runs.append({"model": "llama-1b", "mode": "eager", "round": 2, "error": "exit code <1>"})
    names = dict.fromkeys(r["model"] for r in runs)
    return {"about": {"gpu": {"name": "NVIDIA H200", "driver_version": "1"}, "date": "2026-01-02", "commit": "abcdef0123", "versions": {"torch": "2"}, "command": "c"},
            "cases": {n: compare.case_of(n) for n in names}, "summary": compare.summaries(runs), "runs": runs}


class TrainingReportTests(unittest.TestCase):
    def written(self, results, curves=None):
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, f"{i}.json") for i in range(len(results))]
            for file, result in zip(files, results):
                file.write_text(json.dumps(result), encoding="utf-8")
            if curves:
                Path(folder, "curves.json").write_text(json.dumps(curves), encoding="utf-8")
            train_report.write(files, Path(folder, "curves.json") if curves else None, Path(folder, "out"))
            return tuple(Path(folder, "out", f"train-step.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))

    def test_page_and_tables(self):
        curves = {"settings": {"model": "llama-1b"}, "losses": {"eager": [3.0, 2.0], "engine": [3.0, 2.1]},
                  "distance_to_peft": {"engine": loss_curves.distance([3.0, 2.1], [3.0, 2.0])}}
        html_text, tables = self.written([training()], curves)
        checked = Page()
        checked.feed(html_text)
        self.assertEqual([], checked.open)
        for title in ("Step time", "Memory", "Model FLOPs utilization", "First step", "Loss"):
            self.assertIn(f"<h2>{title}</h2>", html_text)
        self.assertIn("0.37 to 0.37 of PEFT’s time and 0.67 to 0.67", tables)
        self.assertIn("| Llama 1B 8×128, all-linear r 16 | PEFT eager | 108.00 | 2.70 |", tables)
        self.assertIn("exit code &lt;1&gt;", html_text)
        self.assertIn("Engine 0.0500 on average and 0.1000 at most", tables)
        for broken in ('"nan', '"inf', "None", "Traceback"):
            self.assertNotIn(broken, html_text)

    def test_results_of_several_commits_stand_beside_each_other(self):
        _, tables = self.written([training(("engine",)), training()])
        self.assertIn("| GPT-2 medium 8×1024, abcdef0, c_attn r 8 | Engine |", tables)
        self.assertEqual(self.written([training()]), self.written([training()]))


class ReportTests(unittest.TestCase):
    def page(self, data, kernels=None):
        figures = Figures(data, kernels)
        text = lora_report.html(figures)
        page = Page()
        page.feed(text)
        self.assertEqual([], page.open)
        for svg in text.split("<svg ")[1:]:
            ElementTree.fromstring("<svg " + svg.split("</svg>")[0] + "</svg>")
        for broken in ('"nan', '"inf', "None", "http"):
            self.assertFalse(broken in text, broken)
        return text, lora_report.markdown(figures)

    def test_every_section_is_there(self):
        text, tables = self.page(fixture(), ops())
        for title, _, _ in lora_report.SECTIONS:
            self.assertTrue(f"<h2>{html.escape(title)}</h2>" in text, title)
        self.assertIn("said &lt;no&gt;", text)
        self.assertIn("| 8192×4096 → 4096, r 16 |", tables)
        self.assertIn("Made-up GPU; driver 1.2", tables)

    def test_curves_are_a_file_of_their_own(self):
        svg = plots.curves("Loss <of> two", {"a": [3.0, 2.0, 1.5], "b": [3.1, 2.1, 1.4]}, {"a": "first", "b": "second"}, "step", "loss")
        root = ElementTree.fromstring(svg)
        self.assertEqual("{http://www.w3.org/2000/svg}svg", root.tag)
        self.assertEqual(4, len([p for p in root.iter("{http://www.w3.org/2000/svg}path") if "path" in p.get("class").split()]))
        self.assertNotIn("nan", svg)

    def test_the_same_figures_give_the_same_bytes(self):
        with tempfile.TemporaryDirectory() as folder:
            data, kernels = Path(folder, "lora-linear.json"), Path(folder, "ops.json")
            data.write_text(json.dumps(fixture()), encoding="utf-8")
            kernels.write_text(json.dumps(ops()), encoding="utf-8")
            for out in ("a", "b"):
                lora_report.write(data, kernels, Path(folder, out))
            for name in ("lora-linear.html", "lora-linear.md"):
                self.assertEqual(Path(folder, "a", name).read_bytes(), Path(folder, "b", name).read_bytes())

    def test_what_is_missing_is_left_out(self):
        whole = fixture()
        self.page({"about": {}, "cases": []})
        for drop in ("engine", "torch"):
            data = copy.deepcopy(whole)
            for c in data["cases"]:
                c["results"] = [r for r in c["results"] if r["side"] != drop]
            self.page(data)
        for kind in ("linear", "merge", "mixed"):
            text, _ = self.page({**whole, "cases": [c for c in whole["cases"] if c["kind"] == kind]})
            self.assertEqual({"linear": 2, "merge": 1, "mixed": 1}[kind], text.count("<section>"))
        failed = copy.deepcopy(whole)
        for c in failed["cases"]:
            c["results"][-1] = {"side": "torch", "name": c["results"][-1]["name"], "baseline": "bare", "passes": 1, "failure": "out of memory"}
        self.assertIn("out of memory", self.page(failed)[1])

    def test_sentences_follow_the_figures(self):
        data = fixture()
        data["cases"] = [c for c in data["cases"] if (c["rows"], c["inputs"], c["outputs"], c["rank"], c["mode"]) == (8192, 4096, 4096, 16, FORWARD)]
        results = {(r["side"], r["name"]): r for r in data["cases"][0]["results"]}
        results["engine", "engine"]["ratio_median"] = 1.04
        self.assertIn("Engine takes 1.040 times the bare product, within the target at 1 of 1 shapes", Figures(data).say_linear())
        results["engine", "engine"]["ratio_median"] = 1.06
        self.assertIn("within the target at 0 of 1 shapes", Figures(data).say_linear())
        results["engine", "engine"]["us_median"] = 1e6
        self.assertIn("quicker than it at 0 of 1", Figures(data).say_linear())

    def test_a_new_candidate_needs_no_entry_here(self):
        data = fixture()
        data["cases"][0]["results"].append(result("engine", "fused", 30.0, 1.02))
        self.assertIn("Engine, fused", self.page(data)[0])

    def test_what_lies_beyond_an_axis_is_drawn_at_its_end(self):
        axis = plots.Axis.of("x", [1.1, 40.0], low=1.0, log_over=2, cut=3.0)
        self.assertEqual((3.0, True), (axis.high, axis.cut))
        self.assertIn("40.0", plots.dots("t", [plots.Row("r", [(0, 40.0, "forty")])], axis))

    def test_axes_hold_their_values(self):
        for values, log in (([1.02, 1.3], False), ([1.0, 40.0], True), ([5.0], False), ([20.0, 7000.0], True)):
            axis = plots.Axis.of("x", values, low=1.0, log_over=2)
            self.assertEqual(log or values == [5.0], axis.log)
            self.assertTrue(all(0 <= axis.share(v) <= 1 for v in values + axis.ticks()))
            self.assertGreaterEqual(len(axis.ticks()), 2)


if __name__ == "__main__":
    unittest.main()
