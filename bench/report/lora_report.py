#!/usr/bin/env python3
"""The report of the LoRA bench: lora-linear.md and lora-linear.html from lora-linear.json. Standard library only.

    python3 bench/report/lora_report.py lora-linear.json --out out [--ops ops.json]

--ops: what "engine bench op --op all --json ops.json" wrote. The HTML is one file without scripts or links to elsewhere. What
it says is computed from the figures, and the same files give the same bytes."""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import page
import plots
from lora_figures import FORWARD, BOTH, PLOTTED_RANK, SPREAD, SPREAD_RANK, WELL, Figures, number, targets_text

METHOD = ("A ratio is a candidate's time over that of the bare frozen product (for a merge: of a copy of the same size) of the same side, case and "
          "round; figures are medians over the rounds. “Captured”: replayed from a CUDA graph. Engine's candidates and the bare products are captured.")


def linear_plots(figures):
    """(a) the ratio by shape."""
    series = figures.series("linear")
    blocks = []
    for mode in (FORWARD, BOTH):
        rows, values = [], []
        for case in figures.of("linear", mode, PLOTTED_RANK):
            points = [(s, figures.ratio(case, key), figures.title(case, key)) for s, key in series if figures.ratio(case, key)]
            target = figures.target(case)
            if not points or (mode == BOTH and case["rows"] <= 16):  # nobody trains on a row
                continue
            lead = figures.lead(case)
            note = f"Engine {figures.ratio(case, lead):.3f}" if lead and figures.ratio(case, lead) else ""
            rows.append(plots.Row(figures.shape(case), points, [(target, f"target: at most {target:g}")] if target else [], note))
            values += [v for _, v, _ in points] + ([target] if target else [])
        if rows:
            axis = plots.Axis.of("time over that of the bare product (1 = the adapter is free)", values, low=1.0, log_over=1.8, cut=3.0)
            blocks.append(plots.dots(f"{mode}, r {figures.plotted_rank(mode)}", rows, axis, left=170, right=210 if axis.cut else 120))
    shown = {s for block in blocks for s, _ in series if f'"s{s}' in block}
    return plots.legend([(s, figures.label(key)) for s, key in series if s in shown], "target") + "".join(blocks) if blocks else ""


def rank_plots(figures):
    """(b) the ratio by rank."""
    # Candidates that the host's launches hold up are left out: their scale would flatten the others.
    series = [(s, key) for s, key in figures.series("linear") if key[0] == "engine" or key[1].endswith("graph")]
    ranks = figures.ranks()
    panels = []
    for shape in figures.large_shapes():
        for mode in (FORWARD, BOTH):
            cases = {c["rank"]: c for c in figures.of("linear", mode) if figures.extents(c) == shape}
            own = {}
            for s, key in series:
                line = [(p, figures.ratio(cases[r], key), figures.title(cases[r], key)) for p, r in enumerate(ranks)
                        if r in cases and figures.ratio(cases[r], key)]
                if line:
                    own[s] = line
            lead = [figures.ratio(c, figures.lead(c)) for r, c in cases.items() if r <= SPREAD_RANK and figures.lead(c)]
            if own:
                panels.append((f"{figures.shape(next(iter(cases.values())))}, {mode}", own, min(lead) if lead else None))
    if not panels:
        return ""
    shown = [(s, figures.label(key)) for s, key in series if any(s in own for _, own, _ in panels)]
    band = (SPREAD_RANK, SPREAD, f"within {SPREAD} of Engine's least ratio, up to r {SPREAD_RANK}")
    chart = plots.lines("ratio by rank", panels, ranks, [s for s, _ in shown], "over the bare product", "rank r", band)
    return plots.legend(shown) + chart + f'<p class="about">Shaded: {band[2]}.</p>'


def merge_plot(figures):
    """(c) the rate of merges."""
    series, rows = figures.series("merge"), []
    for case in figures.of("merge"):
        points = [(s, figures.rate(case, key), figures.title(case, key)) for s, key in series if figures.rate(case, key)]
        copies = [(rate, f"copy ({side}): {rate:.2f} TB/s") for side in ("engine", "torch") if (rate := figures.rate(case, (side, "copy")))]
        if points:
            share = figures.share_of_copy(case, lead) if (lead := figures.lead(case)) else None
            note = f"Engine {100 * share:.0f}% of the copy" if share else ""
            rows.append(plots.Row(f"{case['outputs']}×{case['inputs']}, r {case['rank']}", points, [max(copies)] if copies else [], note))
    if not rows:
        return ""
    values = [v for row in rows for v, *_ in [*[p[1:] for p in row.points], *row.marks]]
    axis = plots.Axis.of("TB/s, the matrix read and written", values, low=0.0)
    return plots.legend([(s, figures.label(key)) for s, key in series], "copy") + plots.dots("merge into a bf16 matrix", rows, axis)


def mixed_plot(figures):
    """(d) batches that mix adapters."""
    series, rows = figures.series("mixed"), []
    for case in figures.of("mixed"):
        points = [(s, figures.time(case, key), figures.title(case, key)) for s, key in series if figures.time(case, key)]
        bare = figures.bare(case)
        if points:
            lead = figures.lead(case)
            note = f"Engine {number(figures.time(case, lead))} µs" if lead and figures.time(case, lead) else ""
            rows.append(plots.Row(f"{case['rows']} rows, {case['adapters']} adapters", points, [(bare, f"bare product: {number(bare)} µs")] if bare else [], note))
    if not rows:
        return ""
    axis = plots.Axis.of("µs for one layer", [v for row in rows for v, *_ in [*[p[1:] for p in row.points], *row.marks]], log_over=4,
                         format=lambda v: f"{v:,.0f}")
    return plots.legend([(s, figures.label(key)) for s, key in series], "bare product, no adapter") + plots.dots(
        f"{figures.shape(figures.of('mixed')[0])}, r {figures.of('mixed')[0]['rank']}", rows, axis)


def ops_plot(figures):
    """(e) each kernel's share of what limits it."""
    rows = []
    for op in figures.limits():
        title = f"{op['case']}: {op['rate']}, {100 * op['share']:.1f}% of {op['limit']}; {number(op['us'])} µs"
        rows.append(plots.Row(op["op"], [(0 if op["memory"] else 2, 100 * op["share"], title)], [(100 * WELL, f"{100 * WELL:.0f}%")], op["rate"]))
    if not rows:
        return ""
    axis = plots.Axis.of("percent of the measured limit", [v for row in rows for _, v, _ in row.points] + [100], low=0.0)
    return plots.legend([(0, f"bytes/s, of a copy's {figures.copy_rate()}"), (2, f"flop/s, of a product's {figures.product_rate()}")], f"{100 * WELL:.0f}%") + plots.dots(
        "kernels alone, share of the limit", rows, axis, right=110)


SECTIONS = [("Cost over the bare product, by shape", linear_plots, Figures.say_linear), ("Cost by rank", rank_plots, Figures.say_ranks),
            ("Merging", merge_plot, Figures.say_merge), ("Batches that mix adapters", mixed_plot, Figures.say_mixed),
            ("Kernels against the GPU's limits", ops_plot, Figures.say_ops)]


def markdown(figures):
    about = [f"{figures.about_line()} Written by `{figures.about.get('command', 'lora_bench.py')}`.", METHOD]
    return page.markdown(about, [(title, say(figures), "") for title, _, say in SECTIONS], figures.tables(), figures.problems())


def html(figures):
    return page.page(
        "LoRA linear: Engine and PyTorch", "What an adapter costs: Engine and PyTorch", [figures.about_line(), METHOD],
        [(title, say(figures), plot(figures)) for title, plot, say in SECTIONS], targets_text(), figures.tables(), figures.problems())


def write(data, ops, out):
    """Writes the report of a result file, and of the kernels' where there is one."""
    figures = Figures(json.loads(data.read_text(encoding="utf-8")), json.loads(ops.read_text(encoding="utf-8")) if ops else None)
    out.mkdir(parents=True, exist_ok=True)
    (out / "lora-linear.md").write_text(markdown(figures), encoding="utf-8")
    (out / "lora-linear.html").write_text(html(figures), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="lora-linear.json")
    parser.add_argument("--ops", type=Path, help='what "engine bench op --op all --json" wrote')
    parser.add_argument("--out", type=Path, help="folder (default: that of the data)")
    options = parser.parse_args()
    write(options.data, options.ops, options.out or options.data.parent)


if __name__ == "__main__":
    main()
