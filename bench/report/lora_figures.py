"""What the LoRA bench's result file says: figures, tables and the sentences of the report."""

FORWARD, BOTH = "forward", "forward+backward"
PLOTTED_RANK = 16

# The project's targets, as ratios over the bare product: forward, forward+backward.
LARGE, SMALL, FEW_ROWS = (1.05, 1.08), (1.5, 1.2), (1.10, None)
SMALL_EXTENT, FEW = 1024, 16  # at most: inputs and outputs of a small layer; rows of decoding
SPREAD, SPREAD_RANK = 0.03, 64
WELL = 0.85  # the share of its limit that a kernel shall reach

LABELS = {
    ("engine", "engine"): "Engine", ("engine", "two-products"): "Engine, separate products", ("engine", "grouped"): "Engine, adapter by adapter",
    ("engine", "merge"): "Engine", ("engine", "exact merge"): "Engine, exact (can be undone)", ("engine", "merge and undo"): "Engine, merge and undo",
    ("torch", "PEFT"): "PEFT", ("torch", "PEFT graph"): "PEFT's form, captured", ("torch", "addmm"): "addmm by hand",
    ("torch", "addmm graph"): "addmm by hand, captured", ("torch", "compile"): "torch.compile", ("torch", "compile graph"): "torch.compile, captured",
    ("torch", "addmm_"): "addmm_, captured", ("torch", "bmm graph"): "bmm by hand, captured",
}
# Colours and markers by meaning, the same in all plots; whatever else there is takes the rest.
PLACES = {("engine", "engine"): 0, ("engine", "merge"): 0, ("engine", "two-products"): 1, ("engine", "grouped"): 1, ("engine", "exact merge"): 1,
          ("torch", "PEFT"): 2, ("torch", "PEFT graph"): 3, ("torch", "addmm graph"): 4, ("torch", "addmm_"): 4, ("torch", "bmm graph"): 4,
          ("torch", "compile"): 5, ("torch", "compile graph"): 5}
SPARE = [6, 7]
BASELINES = {"bare", "copy"}
UNPLOTTED = {("torch", "bare eager"), ("torch", "addmm"), ("torch", "compile")}  # beside a captured form that is no slower


def number(value):
    """About four digits."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 10 else f"{value:.3f}"


def span(values, form):
    low, high = form(min(values)), form(max(values))
    return low if low == high else f"{low} to {high}"


def targets_text():
    return (f"Targets (over the bare product, forward / forward+backward): {LARGE[0]:g} / {LARGE[1]:g}; layers of at most {SMALL_EXTENT} inputs and outputs "
            f"{SMALL[0]:g} / {SMALL[1]:g}; {FEW} rows or fewer {FEW_ROWS[0]:g}; ratios within {SPREAD:g} of each other up to r {SPREAD_RANK}.")


class Figures:
    """A result file, and optionally that of the kernels alone."""

    def __init__(self, data, ops=None):
        self.data, self.ops, self.about = data, ops or {}, data.get("about", {})
        self.cases = data.get("cases", [])

    def of(self, kind, mode=None, rank=None):
        """Cases of a kind and mode; with a rank those of the nearest rank that was measured."""
        found = [c for c in self.cases if c["kind"] == kind and mode in (None, c["mode"])]
        if rank is not None and found:
            near = min((abs(c["rank"] - rank), c["rank"]) for c in found)[1]
            found = [c for c in found if c["rank"] == near]
        return found

    def plotted_rank(self, mode):
        return self.of("linear", mode, PLOTTED_RANK)[0]["rank"]

    def ranks(self):
        return sorted({c["rank"] for c in self.of("linear")})

    @staticmethod
    def extents(case):
        return case["rows"], case["inputs"], case["outputs"]

    @staticmethod
    def is_small(case):
        return max(case["inputs"], case["outputs"]) <= SMALL_EXTENT

    def large_shapes(self):
        return list(dict.fromkeys(self.extents(c) for c in self.of("linear") if c["rows"] > FEW and not self.is_small(c)))

    @staticmethod
    def shape(case):
        return f"{case['rows']}×{case['inputs']} → {case['outputs']}"

    @staticmethod
    def entry(case, key):
        return next((r for r in case["results"] if (r["side"], r["name"]) == tuple(key)), {}) if key else {}

    def ratio(self, case, key):
        return self.entry(case, key).get("ratio_median")

    def time(self, case, key):
        return self.entry(case, key).get("us_median")

    def bare(self, case, name="bare"):
        """The quicker of the two sides' bare products."""
        times = [t for side in ("engine", "torch") if (t := self.time(case, (side, name)))]
        return min(times) if times else None

    def rate(self, case, key):
        """TB/s of a merge: the matrix read and written, in bf16, as often as a call passes over it."""
        entry = self.entry(case, key)
        if not entry.get("us_median"):
            return None
        return 4e-6 * entry["passes"] * case["inputs"] * case["outputs"] / entry["us_median"]

    def share_of_copy(self, case, key):
        """A merge's rate over that of the quicker side's copy."""
        copied, rate = self.bare(case, "copy"), self.rate(case, key)
        return rate * copied / (4e-6 * case["inputs"] * case["outputs"]) if copied and rate else None

    def lead(self, case):
        """Engine's candidate that stands for it: "engine" where there is one, else the first that is no baseline."""
        own = [r["name"] for r in case["results"] if r["side"] == "engine" and r["name"] not in BASELINES and r.get("us_median")]
        return ("engine", "engine" if "engine" in own else own[0]) if own else None

    def rivals(self, case):
        return [("torch", r["name"]) for r in case["results"] if r["side"] == "torch" and r["name"] not in BASELINES | {"bare eager"} and r.get("us_median")]

    def best_rival(self, case):
        return min(self.rivals(case), key=lambda key: self.time(case, key), default=None)

    def label(self, key):
        return LABELS.get(key) or f"{'Engine' if key[0] == 'engine' else 'PyTorch'}, {key[1]}"

    def series(self, kind):
        """What is plotted of a kind: (place among colours and markers, key), Engine's first."""
        keys = dict.fromkeys((r["side"], r["name"]) for c in self.of(kind) for r in c["results"] if r["name"] not in BASELINES)
        captured = {k for k in keys if (k[0], f"{k[1]} graph") in keys}
        keys = [k for k in keys if k not in UNPLOTTED or (k != ("torch", "bare eager") and k not in captured)]
        spare = iter(SPARE * len(keys))
        placed = [(PLACES[k] if k in PLACES else next(spare), k) for k in keys]
        return sorted(placed, key=lambda p: (p[1][0] != "engine", p[0], p[1][1]))

    def title(self, case, key):
        entry = self.entry(case, key)
        parts = [f"{self.label(key)}: {number(entry.get('us_median'))} µs (least {number(entry.get('us_min'))})"]
        if entry.get("ratio_median"):
            parts.append(f"{entry['ratio_median']:.3f} times the {'copy' if case['kind'] == 'merge' else 'bare product'} of its side")
        if case["kind"] == "merge" and self.rate(case, key):
            parts.append(f"{self.rate(case, key):.2f} TB/s")
        return f"{', '.join(parts)}; r {case['rank']}"

    def target(self, case):
        which = FEW_ROWS if case["rows"] <= FEW else SMALL if self.is_small(case) else LARGE
        return which[0 if case["mode"] == FORWARD else 1]

    def about_line(self):
        gpu, versions = self.about.get("gpu", {}), self.about.get("versions", {})
        parts = [gpu.get("name") or "GPU unknown", f"driver {gpu.get('driver_version', 'unknown')}", *(f"{k} {v}" for k, v in versions.items()),
                 self.about.get("date", "no date"), f"commit {self.about.get('commit', 'unknown')}"]
        count = self.about.get("samples_of_each")
        return "; ".join(parts) + (f"; {count} samples of each" if count else "") + "."

    # Sentences, each "" where its figures are missing.

    def say_linear(self):
        sentences = []
        for mode in (FORWARD, BOTH):
            cases = [c for c in self.of("linear", mode, PLOTTED_RANK) if self.lead(c) and (mode == FORWARD or c["rows"] > FEW)]
            own = [self.ratio(c, self.lead(c)) for c in cases]
            if not cases or None in own:
                continue
            aimed = [(r, self.target(c)) for c, r in zip(cases, own) if self.target(c)]
            met = sum(r <= t for r, t in aimed)
            text = f"{mode.capitalize()}, r {cases[0]['rank']}: Engine takes {span(own, '{:.3f}'.format)} times the bare product, within the target at {met} of {len(aimed)} shapes"
            rivals = [self.ratio(c, self.best_rival(c)) for c in cases if self.best_rival(c)]
            if rivals:
                faster = sum(self.time(c, self.lead(c)) < self.time(c, self.best_rival(c)) for c in cases if self.best_rival(c))
                text += (f"; the quickest PyTorch form at each shape takes {span(rivals, '{:.3f}'.format)} times, "
                         f"and Engine is quicker than it at {faster} of {len(rivals)}")
            sentences.append(text + ".")
        return " ".join(sentences)

    def say_ranks(self):
        spreads = []
        for shape in self.large_shapes():
            for mode in (FORWARD, BOTH):
                own = [self.ratio(c, self.lead(c)) for c in self.of("linear", mode)
                       if self.extents(c) == shape and c["rank"] <= SPREAD_RANK and self.lead(c)]
                own = [r for r in own if r]
                if len(own) > 1:
                    spreads.append((max(own) - min(own), f"{shape[0]}×{shape[1]} → {shape[2]}, {mode}"))
        if not spreads:
            return ""
        widest, where = max(spreads)
        within = sum(s <= SPREAD for s, _ in spreads)
        return (f"Up to r {SPREAD_RANK} Engine's ratio varies by at most {widest:.3f} ({where}); it stays within {SPREAD:g} in {within} of {len(spreads)} charts.")

    def say_merge(self):
        cases = [c for c in self.of("merge") if self.lead(c)]
        if not cases:
            return ""
        text = f"Engine merges at {span([self.rate(c, self.lead(c)) for c in cases], '{:.2f}'.format)} TB/s"
        shares = [s for c in cases if (s := self.share_of_copy(c, self.lead(c)))]
        if shares:
            text += f", {span([100 * s for s in shares], '{:.0f}'.format)}% of a copy of the same size"
        for key in (("torch", "addmm_"), ("torch", "PEFT graph"), ("torch", "PEFT")):
            rates = [r for c in cases if (r := self.rate(c, key))]
            if rates:
                text += f"; {self.label(key)}: {span(rates, '{:.2f}'.format)}"
        return text + "."

    def say_mixed(self):
        sentences = []
        for case in self.of("mixed"):
            lead, bare = self.lead(case), self.time(case, ("engine", "bare"))
            if not lead:
                continue
            text = f"{case['adapters']} adapters in {case['rows']} rows: Engine takes {number(self.time(case, lead))} µs"
            if bare:
                text += f", {self.time(case, lead) / bare:.2f} times the product without adapters"
            for key in (("torch", "PEFT"), ("torch", "bmm graph")):
                if self.time(case, key):
                    text += f"; {self.label(key)} {number(self.time(case, key))} µs, {number(self.time(case, key) / self.time(case, lead))} times Engine's"
            sentences.append(text + ".")
        return " ".join(sentences)

    def limits(self):
        """The kernels and what share of the limit that binds them they reach, the highest first."""
        found = []
        for op in self.ops.get("results", []):
            shares = {True: op.get("share_of_copy") or 0, False: op.get("share_of_matmul") or 0}
            memory = shares[True] >= shares[False]
            if not shares[memory] or op.get("failure"):
                continue
            rate = f"{op['bytes_per_second'] / 1e9:,.0f} GB/s" if memory else f"{op['flops_per_second'] / 1e12:,.1f} TFLOP/s"
            found.append({"op": op["op"], "case": op["case"], "us": op["microseconds_median"], "memory": memory, "share": shares[memory], "rate": rate,
                          "limit": f"a copy's {self.copy_rate()}" if memory else f"a product's {self.product_rate()}"})
        return sorted(found, key=lambda o: (-o["share"], o["op"]))

    def copy_rate(self):
        return f"{(self.ops.get('copy_bytes_per_second') or 0) / 1e9:,.0f} GB/s"

    def product_rate(self):
        return f"{(self.ops.get('matmul_flops_per_second') or 0) / 1e12:,.0f} TFLOP/s"

    def say_ops(self):
        ops = self.limits()
        if not ops:
            return ""
        last = ops[-1]
        return (f"{sum(o['share'] >= WELL for o in ops)} of {len(ops)} kernels reach {100 * WELL:.0f}% of the limit that binds them; "
                f"the furthest from it is {last['op']} with {100 * last['share']:.0f}%{self.ops_source()}.")

    def ops_source(self):
        """Where and when the kernels were timed, as the end of a sentence: another run than the layers', perhaps on another GPU."""
        parts = [self.ops.get("gpu"), (self.ops.get("date") or "").partition("T")[0], self.ops.get("engine", "").partition("+")[2][:7]]
        return f" ({', '.join(part for part in parts if part)})" if any(parts) else ""

    def tables(self):
        """(title, header, rows) of everything measured."""
        for kind, name in (("linear", "Linear layer with an adapter"), ("merge", "Merge"), ("mixed", "Batches that mix adapters")):
            for mode in dict.fromkeys(c["mode"] for c in self.of(kind)):
                cases = self.of(kind, mode)
                columns = list(dict.fromkeys((r["side"], r["name"]) for c in cases for r in c["results"]))
                bases = [k for k in columns if k[1] in BASELINES]
                header = ["case", *(f"{k[1]} ({'Engine' if k[0] == 'engine' else 'PyTorch'}), µs" for k in bases),
                          *(self.label(k) for k in columns if k not in bases)]
                rows = [[self.case_name(c), *(number(self.time(c, k)) for k in bases), *(self.cell(c, k) for k in columns if k not in bases)] for c in cases]
                yield f"{name}{'' if mode == kind else f', {mode}'}: µs (ratio{', TB/s' if kind == 'merge' else ''})", header, rows

    def case_name(self, case):
        shape = f"{case['outputs']}×{case['inputs']}" if case["kind"] == "merge" else self.shape(case)
        return f"{shape}, r {case['rank']}" + (f", {case['adapters']} adapters" if case["adapters"] > 1 else "")

    def cell(self, case, key):
        if not self.time(case, key):
            return "failed" if self.entry(case, key).get("failure") else ""
        ratio, rate = self.ratio(case, key), self.rate(case, key) if case["kind"] == "merge" else None
        figures = [*([f"{ratio:.3f}"] if ratio else []), *([f"{rate:.2f}"] if rate else [])]
        return number(self.time(case, key)) + (f" ({', '.join(figures)})" if figures else "")

    def problems(self):
        """What failed or was left out, and what torch.compile was restricted to."""
        said = [f"{self.case_name(c)}, {c['mode']}: {self.label((r['side'], r['name']))}: {r['failure']}"
                for c in self.cases for r in c["results"] if r.get("failure")]
        said += [f"round {r['round']}, {r['case']}, {r['side']}: {r.get('error') or r.get('skipped')}"
                 for r in self.data.get("runs", []) if r.get("error") or r.get("skipped")]
        return said + ([self.about["compiled"] + "."] if self.about.get("compiled") else [])
