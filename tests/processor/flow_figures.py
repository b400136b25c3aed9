"""Play the scenes of `docs/performance.md` and write their figures there: `python -m tests.processor.flow_figures`."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nightshift_processor.flow import Rules
from tests.layout.sources import ROOT
from tests.processor.queueing import Figures, Scene, play

PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "flow-control.svg"
_ALONE = Scene()
_FLAT_OUT, _CONTROLLED, _SHARE = Rules(96, is_shared=False), Rules(96), Rules(96, share=0.125)
_CROWD = Scene(slots=256, crowding=32)
_CROWD_FLAT_OUT = Rules(256, is_shared=False)
SCENES = {
    "nobody but people": _ALONE,
    "batch of 96 at once, no control": replace(_ALONE, batches=(_FLAT_OUT,)),
    "control, by latency alone": replace(_ALONE, batches=(_CONTROLLED,)),
    "control, server refuses beyond 16 waiting": replace(_ALONE, batches=(_CONTROLLED,), queue_limit=16),
    "control, server has `/metrics`": replace(_ALONE, batches=(_CONTROLLED,), polls_s=2.0),
    "the same with `batchShare: 0.125`": replace(_ALONE, batches=(_SHARE,), polls_s=2.0),
    "continuous batching: nobody but people": _CROWD,
    "continuous batching: batch of 256 at once": replace(_CROWD, batches=(_CROWD_FLAT_OUT,)),
    "continuous batching: control": replace(_CROWD, batches=(Rules(256),), polls_s=2.0),
}
_ROW = re.compile(r"^\| ([^|]+?) \| ([\d.]+) s \| ([\d.]+) \|$", re.MULTILINE)
_TABLE = re.compile(r"^\| scene .*?(?=^\n)", re.MULTILINE | re.DOTALL)
_LEFT, _BAR, _GAP, _ROW_PX = 330, 260, 60, 26


def read_page(page: Path) -> dict[str, tuple[float, float]]:
    """Give what the page says of each scene."""
    return {name: (float(p95_s), float(lines)) for name, p95_s, lines in _ROW.findall(page.read_text())}


def render_table(figures: dict[str, Figures]) -> str:
    rows = [f"| {name} | {f.p95_s:.1f} s | {sum(f.lines_per_s):.1f} |" for name, f in figures.items()]
    return "\n".join(["| scene | people's p95 | lines of the batch per second |", "| --- | --- | --- |", *rows, ""])


def render_plot(figures: dict[str, Figures]) -> str:
    width, height = _LEFT + 2 * (_BAR + _GAP), (len(figures) + 1) * _ROW_PX + 10
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
            "<style>text { font: 13px sans-serif }</style>",
            f'<rect width="{width}" height="{height}" fill="white"/>',
            f'<text x="{_LEFT}" y="18" font-weight="bold">people wait (p95)</text>',
            f'<text x="{_LEFT + _BAR + _GAP}" y="18" font-weight="bold">the batch does per second</text>',
            *_bars(figures),
            "</svg>\n",
        ]
    )


def _bars(figures: dict[str, Figures]) -> Iterator[str]:
    longest, most = max(f.p95_s for f in figures.values()), max(sum(f.lines_per_s) for f in figures.values())
    for number, (name, f) in enumerate(figures.items(), 1):
        y = number * _ROW_PX + 18
        yield f'<text x="{_LEFT - 8}" y="{y}" text-anchor="end">{name.replace("`", "")}</text>'
        yield _bar(_LEFT, y, f.p95_s / longest, f"{f.p95_s:.1f} s", "#c2410c")
        yield _bar(_LEFT + _BAR + _GAP, y, sum(f.lines_per_s) / most, f"{sum(f.lines_per_s):.1f}", "#1d4ed8")


def _bar(x: int, y: int, part: float, text: str, colour: str) -> str:
    width = round(part * _BAR)
    return (
        f'<rect x="{x}" y="{y - 13}" width="{width}" height="17" fill="{colour}"/>'
        f'<text x="{x + width + 5}" y="{y}">{text}</text>'
    )


def main() -> None:
    figures = {name: play(scene) for name, scene in SCENES.items()}
    table = render_table(figures)
    print(table)
    PAGE.write_text(_TABLE.sub(lambda _: table, PAGE.read_text()))
    PLOT.write_text(render_plot(figures))


if __name__ == "__main__":
    main()
