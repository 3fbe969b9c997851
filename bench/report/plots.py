"""Plots as SVG text, for reports that are one file: dots on a common axis, and small line charts. Standard library only.

Colours are the classes s0, s1, … of STYLE, which has them for light and dark; each series has a marker of its own too, so that
nothing hangs on colour alone. Positions are rounded, so that the same figures give the same bytes."""

import math
from dataclasses import dataclass, field
from html import escape

# Okabe and Ito's colours, which people with any colour vision tell apart; lighter ones on dark ground.
LIGHT = ["#0072b2", "#5b7f95", "#d55e00", "#b8860b", "#00805c", "#b0508a", "#6f4fa0", "#555555"]
DARK = ["#56b4e9", "#9db8c9", "#ff8f4d", "#f0c04a", "#3fcf9f", "#ee9acb", "#b79cec", "#bbbbbb"]
MARKERS = ["circle", "ring", "square", "diamond", "triangle", "down", "cross", "bar"]

STYLE = """
:root{--ground:#fff;--ink:#1c2126;--soft:#5a6570;--line:#d9dee3;--band:#e8f1f8;--row:#f6f8fa;LIGHT}
@media (prefers-color-scheme:dark){:root{--ground:#14181c;--ink:#e6eaee;--soft:#9aa5b0;--line:#333c45;--band:#1d2f3d;--row:#1a1f24;DARK}}
svg{display:block;width:100%;height:auto;font:13px system-ui,-apple-system,"Segoe UI",sans-serif}
svg text{fill:var(--ink)} svg .soft{fill:var(--soft)} svg .small{font-size:11.5px} svg .strong{font-weight:600}
svg .grid{stroke:var(--line);stroke-width:1} svg .zero{stroke:var(--soft);stroke-width:1} svg .stripe{fill:var(--row)} svg .band{fill:var(--band)}
svg .target{stroke:var(--ink);stroke-width:2} svg .span{stroke:var(--line);stroke-width:2}
""".replace("LIGHT", "".join(f"--s{i}:{c};" for i, c in enumerate(LIGHT))).replace(
    "DARK", "".join(f"--s{i}:{c};" for i, c in enumerate(DARK))) + "".join(
    f".s{i}{{fill:var(--s{i});stroke:var(--s{i})}}" for i in range(len(LIGHT))) + ".open{fill:var(--ground)!important;stroke-width:2}.path{fill:none;stroke-width:2}"


@dataclass
class Axis:
    """Values to positions from left to right; logarithmic where the figures span more than a few times."""

    label: str
    low: float
    high: float
    log: bool = False
    format: object = None
    cut: bool = False

    @staticmethod
    def of(label, values, low=None, log_over=math.inf, format=None, cut=math.inf):
        """An axis that holds the values; low is where it begins at the latest, cut where it ends at the latest."""
        values = [v for v in values if v is not None and math.isfinite(v)]
        first, last = min([*values, *([low] if low is not None else [])]), max([*values, *([low] if low is not None else [])])
        beyond, last = last > cut, min(last, cut)
        log = first > 0 and last / first > log_over
        if log:
            return Axis(label, first / 1.02, last * (1 if beyond else 1.06), True, format, beyond)
        room = 0.06 * ((last - first) or abs(last) or 1)
        return Axis(label, first - (0 if first == 0 else room / 3), last + (0 if beyond else room), False, format, beyond)

    def share(self, value):
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most=7):
        if self.log:
            found = []
            for steps in ((1, 1.1, 1.2, 1.5, 2, 3, 4, 5, 7), (1, 1.5, 2, 3, 5), (1, 2, 5), (1,)):
                found = [s * 10.0**e for e in range(-6, 10) for s in steps if self.low <= s * 10.0**e <= self.high]
                if len(found) <= most + 2:
                    break
            return found
        raw = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw)
        return [round(i * step, 10) for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]

    def text(self, value):
        return self.format(value) if self.format else f"{value:g}"


@dataclass
class Row:
    """One line of a dot plot: label, points (series, value, hover title), marks (value, hover title), a figure at the right."""

    label: str
    points: list
    marks: list = field(default_factory=list)
    note: str = ""


def n(value):
    return f"{value:.1f}".rstrip("0").rstrip(".")


def marker(series, x, y, title):
    """A point of a series with its hover title."""
    shape, size = MARKERS[series % len(MARKERS)], 5.5
    place = f'class="s{series % len(LIGHT)}'
    if shape in ("circle", "ring"):
        body = f'<circle {place}{" open" if shape == "ring" else ""}" cx="{n(x)}" cy="{n(y)}" r="{n(size)}"/>'
    elif shape == "square":
        body = f'<rect {place}" x="{n(x - 4.8)}" y="{n(y - 4.8)}" width="9.6" height="9.6"/>'
    elif shape in ("cross", "bar"):
        lines = f"M{n(x - 5)} {n(y - 5)}L{n(x + 5)} {n(y + 5)}M{n(x - 5)} {n(y + 5)}L{n(x + 5)} {n(y - 5)}" if shape == "cross" \
            else f"M{n(x)} {n(y - 6)}V{n(y + 6)}"
        body = f'<path {place} path" d="{lines}"/>'
    else:
        corners = {"diamond": ((0, -6.5), (6.5, 0), (0, 6.5), (-6.5, 0)), "triangle": ((0, -6), (6, 5), (-6, 5)),
                   "down": ((0, 6), (6, -5), (-6, -5))}[shape]
        body = f'<path {place}" d="M{"L".join(f"{n(x + dx)} {n(y + dy)}" for dx, dy in corners)}Z"/>'
    return f"<g><title>{escape(title)}</title>{body}</g>"


def legend(entries, mark=None):
    """What the markers stand for: (series, label) each, and what a target's stroke is."""
    items = [f'<span><svg viewBox="0 0 16 16" aria-hidden="true">{marker(s, 8, 8, label)}</svg>{escape(label)}</span>' for s, label in entries]
    if mark:
        items.append(f'<span><svg viewBox="0 0 16 16" aria-hidden="true"><path class="target" d="M8 1V15"/></svg>{escape(mark)}</span>')
    return f'<div class="legend">{"".join(items)}</div>'


def dots(title, rows, axis, left=190, right=150, width=920):
    """Dots on a common axis, a row for each case."""
    pitch, top = 30, 30
    bottom = top + pitch * len(rows)

    def x(value):
        return left + min(axis.share(value), 1) * (width - left - right)

    parts = [f'<svg viewBox="0 0 {width} {bottom + 44}" role="img" aria-label="{escape(title)}">']
    parts += [f'<rect class="stripe" x="0" y="{top + pitch * i}" width="{width}" height="{pitch}"/>' for i in range(0, len(rows), 2)]
    for tick in axis.ticks():
        parts.append(f'<path class="grid" d="M{n(x(tick))} {top}V{bottom}"/><text class="soft small" text-anchor="middle" x="{n(x(tick))}" '
                     f'y="{bottom + 17}">{escape(axis.text(tick))}</text>')
    parts.append(f'<text class="soft small" text-anchor="middle" x="{n((left + width - right) / 2)}" y="{bottom + 36}">{escape(axis.label)}</text>')
    parts.append(f'<text class="strong" x="8" y="20">{escape(title)}</text>')
    for i, row in enumerate(rows):
        y = top + pitch * (i + 0.5)
        parts.append(f'<text x="8" y="{n(y + 4.5)}">{escape(row.label)}</text>')
        places = [x(value) for _, value, _ in row.points]
        if len(places) > 1:
            parts.append(f'<path class="span" d="M{n(min(places))} {n(y)}H{n(max(places))}"/>')
        parts += [f'<g><title>{escape(t)}</title><path class="target" d="M{n(x(v))} {n(y - 11)}V{n(y + 11)}"/></g>' for v, t in row.marks]
        # Beyond the axis: at its end, side by side, with the figure.
        far = [p for p in row.points if axis.share(p[1]) > 1]
        for k, (s, v, t) in enumerate(sorted(far, key=lambda p: p[1])):
            at = width - right + 14 + 52 * k
            parts.append(f'{marker(s, at, y, t)}<text class="small" x="{n(at + 9)}" y="{n(y + 4.5)}">{v:.1f}</text>')
        # The first series lies on top.
        parts += [marker(s, x(v), y, t) for s, v, t in reversed(row.points) if axis.share(v) <= 1]
        parts.append(f'<text class="small" text-anchor="end" x="{width - 8}" y="{n(y + 4.5)}">{escape(row.note)}</text>')
    return "".join([*parts, "</svg>"])


def lines(title, panels, values, series, y_label, x_label, band=None, columns=2):
    """Small line charts with common axes. panels: (title, {series: [(place in values, y, hover title)]}, from where a band begins)."""
    width, height, left, top, right, foot = 450, 230, 48, 34, 14, 42
    points = [y for _, own, _ in panels for line in own.values() for _, y, _ in line]
    axis = Axis.of(y_label, points, low=1.0)
    rows = math.ceil(len(panels) / columns)
    parts = [f'<svg viewBox="0 0 {columns * width} {rows * height}" role="img" aria-label="{escape(title)}">']
    for i, (name, own, begins) in enumerate(panels):
        ox, oy = (i % columns) * width, (i // columns) * height

        def x(place, ox=ox):
            return ox + left + (place + 0.5) / len(values) * (width - left - right)

        def y(value, oy=oy):
            return oy + height - foot - axis.share(value) * (height - top - foot)

        if band and begins is not None:
            count = sum(v <= band[0] for v in values)
            parts.append(f'<g><title>{escape(band[2])}</title><rect class="band" x="{n(ox + left)}" y="{n(y(min(begins + band[1], axis.high)))}" '
                         f'width="{n(count / len(values) * (width - left - right))}" height="{n(y(begins) - y(min(begins + band[1], axis.high)))}"/></g>')
        for tick in axis.ticks(5):
            parts.append(f'<path class="grid" d="M{n(ox + left)} {n(y(tick))}H{n(ox + width - right)}"/><text class="soft small" text-anchor="end" '
                         f'x="{n(ox + left - 6)}" y="{n(y(tick) + 4)}">{tick:.4g}</text>')
        parts += [f'<text class="soft small" text-anchor="middle" x="{n(x(p))}" y="{n(oy + height - foot + 16)}">{v}</text>' for p, v in enumerate(values)]
        parts.append(f'<text class="strong" x="{n(ox + left)}" y="{n(oy + 20)}">{escape(name)}</text>'
                     f'<text class="soft small" text-anchor="middle" x="{n(ox + (left + width - right) / 2)}" y="{n(oy + height - 9)}">{escape(x_label)}</text>'
                     f'<text class="soft small" text-anchor="middle" transform="translate({n(ox + 12)} {n(oy + (top + height - foot) / 2)}) rotate(-90)">{escape(y_label)}</text>')
        for s in reversed([s for s in series if s in own]):
            path = "L".join(f"{n(x(p))} {n(y(v))}" for p, v, _ in own[s])
            parts.append(f'<path class="s{s % len(LIGHT)} path" d="M{path}"/>')
            parts += [marker(s, x(p), y(v), t) for p, v, t in own[s]]
    return "".join([*parts, "</svg>"])


def curves(title, own, labels, x_label, y_label, width=920, height=360):
    """Lines of one length over 0, 1, 2, … on common axes, as an SVG file of its own. own: {series: values}, labels: {series: name}."""
    left, right, top, foot = 60, 20, 64, 46
    count = max(len(values) for values in own.values())
    axis = Axis.of(y_label, [v for values in own.values() for v in values])

    def x(place):
        return left + place / max(1, count - 1) * (width - left - right)

    def y(value):
        return height - foot - axis.share(value) * (height - top - foot)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}"><style>{STYLE}</style>'
             f'<rect width="{width}" height="{height}" style="fill:var(--ground)"/><text class="strong" x="{left}" y="24">{escape(title)}</text>']
    for tick in axis.ticks(6):
        parts.append(f'<path class="grid" d="M{left} {n(y(tick))}H{width - right}"/><text class="soft small" text-anchor="end" x="{left - 6}" '
                     f'y="{n(y(tick) + 4)}">{tick:.4g}</text>')
    for step in range(0, count, max(1, 10 ** int(math.log10(max(count, 2) - 1)) // 4 or 1)):
        parts.append(f'<text class="soft small" text-anchor="middle" x="{n(x(step))}" y="{height - foot + 16}">{step}</text>')
    parts.append(f'<text class="soft small" text-anchor="middle" x="{n((left + width - right) / 2)}" y="{height - 8}">{escape(x_label)}</text>'
                 f'<text class="soft small" text-anchor="middle" transform="translate(14 {n((top + height - foot) / 2)}) rotate(-90)">{escape(y_label)}</text>')
    for i, (series, values) in enumerate(own.items()):
        path = "L".join(f"{n(x(p))} {n(y(v))}" for p, v in enumerate(values))
        # Behind, the lines are wider, so that each is seen where they lie on each other.
        parts.append(f'<path class="s{i % len(LIGHT)} path" style="stroke-width:{n(1.5 + 2 * (len(own) - 1 - i))}" d="M{path}"/>'
                     f'<path class="s{i % len(LIGHT)} path" d="M{left + 190 * i} 44h22"/><text class="small" x="{left + 190 * i + 28}" y="48">{escape(labels[series])}</text>')
    return "".join([*parts, "</svg>"])
