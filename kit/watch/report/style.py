"""The style of the page: light and dark, narrow and wide, on paper; fonts of the reader's machine."""

from __future__ import annotations

from kit.output.charts.chart import COLOURS

_CSS = """
:root { color-scheme: light dark; --back: #fff; --front: #1c2128; --soft: #57606a; --line: #d0d7de;
  --panel: #f6f8fa; --warn: #8a3700; LIGHT }
@media screen and (prefers-color-scheme: dark) { :root { --back: #12161c; --front: #e3e8ee; --soft: #a3adb9;
  --line: #3a434e; --panel: #1b2129; --warn: #ffa86b; DARK } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 62rem; background: var(--back);
  color: var(--front); font: 16px/1.5 system-ui, "Noto Sans", "Noto Sans CJK JP", "IPAGothic", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.4rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
p { margin: .5rem 0; overflow-wrap: anywhere; }
a { color: inherit; }
nav { margin: 1rem 0; font-size: .9rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: 0; padding: 0; list-style: none; }
.soft, footer { color: var(--soft); font-size: .9rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .6rem;
  margin: 1.2rem 0; }
.figures div { background: var(--panel); border: 1px solid var(--line); border-radius: 6px;
  padding: .5rem .7rem; }
.figures dt { color: var(--soft); font-size: .8rem; }
.figures dd { margin: 0; font-size: 1.15rem; font-weight: 600; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
.alert { border-left: 4px solid var(--warn); padding: .3rem .8rem; background: var(--panel); }
.alert strong { color: var(--warn); }
code, pre { font: .85rem/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: .7rem;
  max-height: 26rem; overflow: auto; }
.wide { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .2rem; }
th, td { padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 500; vertical-align: bottom; }
tbody th { font-weight: 500; }
.number { text-align: right; }
.short, .number { white-space: nowrap; }
tbody th { min-width: 6.5rem; }
.sample { display: inline-block; min-width: 6rem; max-width: 36rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .5em; border-radius: 2px; }
figure { margin: 1.4rem 0; break-inside: avoid; }
figcaption { font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 0 1.2rem; list-style: none; margin: .2rem 0; padding: 0;
  font-size: .82rem; color: var(--soft); }
.legend .faint { stroke-width: 1; stroke-opacity: 1; }
.legend svg { margin-right: .4rem; vertical-align: middle; }
.y-title, .x-title { color: var(--soft); font-size: .78rem; margin: .3rem 0 0; }
.x-title { text-align: right; }
.note { color: var(--soft); font-size: .82rem; margin: .2rem 0; }
.field { padding: 16px 14px 24px 50px; }
.field.strips { padding: 0 14px 24px 6px; }
svg.chart { display: block; overflow: visible; }
svg text { font-size: 12px; fill: var(--soft); }
svg text.x, svg .mark text { text-anchor: middle; }
svg text.y { text-anchor: end; }
svg .mark text { font-size: 9px; }
svg .mark line { stroke: var(--grey); stroke-width: .7; stroke-dasharray: 2 2; }
svg .grid { stroke: var(--line); stroke-width: .6; }
svg .axis { stroke: var(--soft); stroke-width: 1; }
svg .edged { stroke: var(--back); stroke-width: .5; }
svg path { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.line { stroke-width: 1.7; }
.faint { stroke-width: .8; stroke-opacity: .5; }
.dashed { stroke-width: 1.3; stroke-dasharray: 5 4; }
.points { stroke-width: 5; stroke-linecap: round; }
@media (max-width: 40rem) { body { padding: 1rem .8rem 3rem; } .odd { display: none; } }
@media print { @page { margin: 15mm; }
  body { padding: 0; max-width: none; font-size: 10.5pt; } nav { display: none; }
  pre { max-height: none; white-space: pre-wrap; overflow-wrap: anywhere; } h2, h3 { break-after: avoid; }
  tr { break-inside: avoid; } .wide { overflow: visible; } table { font-size: 8.5pt; }
  rect, .swatch, .figures div { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


def sheet() -> str:
    """The style sheet."""
    light, dark = (
        " ".join(f"--{name}: {pair[which]};" for name, pair in COLOURS.items()) for which in (0, 1)
    )
    return _CSS.replace("LIGHT", light).replace("DARK", dark)
