"""A report as one HTML page without scripts or links to elsewhere. Standard library only."""

from html import escape

import plots

STYLE = """
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:940px;margin:0 auto;padding:32px 20px 64px}h1{font-size:28px;line-height:1.2;margin:0 0 6px}h2{font-size:20px;margin:48px 0 4px}
p{margin:6px 0 12px;max-width:46em}.about{color:var(--soft);font-size:14px}.say{font-size:16px}figure{margin:12px 0 24px}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13px;margin:8px 0}.legend span{display:inline-flex;align-items:center;gap:6px}
.legend svg{width:16px;height:16px}.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:3px 10px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}th:first-child,td:first-child{text-align:left}
details{margin:16px 0}summary{cursor:pointer}code{font-size:.92em}
"""


def page(title, heading, about, sections, note, tables, problems):
    """The page. about: paragraphs, sections: (title, sentence, drawing), tables: (title, header, rows), problems: sentences."""
    parts = ['<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
             f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title><style>{plots.STYLE}{STYLE}</style></head><body><main>',
             f'<h1>{escape(heading)}</h1>' + "".join(f'<p class="about">{escape(text)}</p>' for text in about)]
    for name, sentence, drawing in sections:
        if drawing:
            parts.append(f'<section><h2>{escape(name)}</h2><p class="say">{escape(sentence)}</p><figure>{drawing}</figure></section>')
    parts.append((f'<p class="about">{escape(note)}</p>' if note else "") + "<h2>All figures</h2>")
    for name, header, rows in tables:
        head = "".join(f"<th>{escape(h)}</th>" for h in header)
        body = "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in rows)
        parts.append(f'<details><summary>{escape(name)}</summary><div class="scroll"><table><tr>{head}</tr>{body}</table></div></details>')
    if problems:
        parts.append(f"<h2>Not measured</h2><ul>{''.join(f'<li>{escape(p)}</li>' for p in problems)}</ul>")
    return "\n".join([*parts, "</main></body></html>"]) + "\n"


def markdown(about, sections, tables, problems):
    """The same as Markdown, without drawings."""
    lines = [part for text in about for part in (text, "")]
    lines += [f"- {name}: {sentence}" for name, sentence, _ in sections if sentence]
    for name, header, rows in tables:
        lines += ["", f"## {name}", "", f"| {' | '.join(header)} |", f"|{'---|' * len(header)}", *(f"| {' | '.join(r)} |" for r in rows)]
    return "\n".join(lines + (["", "## Not measured", "", *(f"- {p}" for p in problems)] if problems else [])) + "\n"
