"""Rows: how long it takes to validate 50,000 lines, 104 MB, against parsing them and nothing else."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from nightshift_crds.inspection import Inspection, Limits
from nightshift_crds.lines import CHAT, EMBEDDINGS
from tests.bench.harness import Contest, Row, Sample, figure, seconds

LINES = 50_000
LINE_BYTES = 2_074
"""A little under the largest file that is allowed."""
BIN = Path(sys.executable).parent
MIB = 1 << 20
WORDS = {
    "ASCII": "The night shift sorts what the day has left behind. ",
    "accents": "L'équipe de nuit trie ce que la journée a laissé derrière elle. ",
    "CJK": "夜班整理白天留下的一切直到早晨。",
}


def write_file(folder: Path, words: str) -> Path:
    """Write an input of 104 MB whose prompts are of these words, in UTF-8."""
    path = folder / "in.jsonl"
    path.write_bytes(b"".join(_lines(words)))
    return path


def _lines(words: str) -> Iterator[bytes]:
    text = (words * (LINE_BYTES // len(words.encode()) + 1)).encode()
    envelope = len(_line(LINES, ""))
    for n in range(LINES):
        yield _line(n, text[: LINE_BYTES - envelope].decode(errors="ignore"))


def _line(n: int, prompt: str) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "temperature": 0.7, "max_tokens": n}
    line = {"custom_id": f"row-{n:06d}", "method": "POST", "url": CHAT, "body": body}
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def parse_lines(path: Path) -> None:
    """Read every line as JSON, and that is all: the reference."""
    with path.open("rb") as file:
        for line in file:
            orjson.loads(line)


def validate(path: Path) -> None:
    """Check the file as an upload is checked: every rule, every endpoint, in chunks."""
    inspection = Inspection((CHAT, EMBEDDINGS), Limits(LINES, 16 * MIB))
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            inspection.feed(chunk)
    verdict = inspection.finish()
    assert (verdict.lines, verdict.endpoints[CHAT].errors) == (LINES, [])


def check(path: Path) -> None:
    """Check the file on the command line."""
    subprocess.run([BIN / "nightshift", "check", path], check=True, capture_output=True)


def parse_alone(path: Path) -> None:
    """Read every line as JSON, in a process of its own."""
    subprocess.run([sys.executable, "-m", "tests.bench.validation", path], check=True)


def contests_of(folder: Path) -> Iterator[Contest]:
    """Give the contests; each file is there only while it is measured with."""
    for name, words in WORDS.items():
        path = write_file(folder, words)
        row = Row(f"validation, {name}, {size_of(path)}, against parsing alone", *_SIDES, floor=1.5, aim=1.1)
        yield Contest(_sides(parse_lines, validate, path), (row,))
        if name == "ASCII":
            check_row = Row(f"`nightshift check`, {name}, against a process that parses", *_SIDES)
            yield Contest(_sides(parse_alone, check, path), (check_row,))
        path.unlink()


_SIDES = figure("reference"), figure("subject")


def _sides(
    reference: Callable[[Path], None], subject: Callable[[Path], None], path: Path
) -> dict[str, Callable[[], Sample]]:
    return {"reference": seconds(lambda: reference(path)), "subject": seconds(lambda: subject(path))}


def size_of(path: Path) -> str:
    """Say how large a file is."""
    return f"{path.stat().st_size / 1e6:.0f} MB"


if __name__ == "__main__":
    parse_lines(Path(sys.argv[1]))
