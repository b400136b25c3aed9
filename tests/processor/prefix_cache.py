"""A model of a model server with a prefix cache: what an order of lines is worth, in tokens that need no computing.

`python -m tests.processor.prefix_cache` prints the table of docs/prefix-order.md. It is a model, not a server: prompts
are cut into blocks of 16 tokens of four bytes, and a block is found if it and all before it are kept. Blocks of running
requests stay; of the others the longest unused go first, and the last of a prompt before its first. As many requests
run at once as may, and end in the order in which they began. Servers differ in when a block can be found by another
request: in vLLM from when it is scheduled (`allocate_slots` ends with `cache_blocks`), in others when its request ends.
"""

import json
import random
import tempfile
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from nightshift_processor.prefix import prefix_key
from nightshift_processor.sorting import Sorter

BLOCK_BYTES = 16 * 4


@dataclass
class PrefixCache:
    """Blocks that are kept, each named by all that stands before it.

    Attributes:
        is_early: whether a block is found from when its request begins, else from when it ends.
    """

    blocks: int
    is_early: bool
    found: int = 0
    asked: int = 0
    _pinned: Counter[int] = field(default_factory=Counter)
    _unused: "OrderedDict[int, None]" = field(default_factory=OrderedDict)

    def begin(self, names: list[int]) -> None:
        """Look a prompt's blocks up, and compute the others."""
        known = list(takewhile(self._has, names))
        self.asked += len(names)
        self.found += len(known)
        for name in names if self.is_early else known:
            self._unused.pop(name, None)
            self._pinned[name] += 1
        self._make_room()

    def end(self, names: list[int]) -> None:
        """Keep a prompt's blocks as long as there is room."""
        for name in reversed(names):
            if self._pinned[name] > 1:
                self._pinned[name] -= 1
                continue
            del self._pinned[name]
            self._unused[name] = None
            self._unused.move_to_end(name)
        self._make_room()

    def _has(self, name: int) -> bool:
        return name in self._unused or name in self._pinned

    def _make_room(self) -> None:
        while self._unused and len(self._unused) + len(self._pinned) > self.blocks:
            self._unused.popitem(last=False)


def blocks_of(prompt: bytes) -> list[int]:
    """Name the whole blocks of a prompt."""
    names, name = [], 0
    for end in range(BLOCK_BYTES, len(prompt) + 1, BLOCK_BYTES):
        name = hash((name, prompt[end - BLOCK_BYTES : end]))
        names.append(name)
    return names


def hit_rate(prompts: Iterable[bytes], cache: PrefixCache, at_once: int = 64) -> float:
    """Serve prompts in their order; gives the share of blocks that were found."""
    running = deque[list[int]]()
    for prompt in prompts:
        if len(running) == at_once:
            cache.end(running.popleft())
        running.append(blocks_of(prompt))
        cache.begin(running[-1])
    return cache.found / cache.asked


def ordered(lines: list[bytes]) -> Iterator[bytes]:
    """Give lines as a processor sends them."""
    with tempfile.TemporaryDirectory() as scratch:
        sorter = Sorter(Path(scratch))
        for line in lines:
            sorter.add(prefix_key(line))
        yield from (lines[number] for number in sorter.sort())


@dataclass(frozen=True)
class Workload:
    """Lines whose prompts begin with one of several texts, in random order."""

    name: str
    lines: int
    beginnings: int
    beginning_tokens: int
    own_tokens: int
    common_tokens: int = 0

    def build(self) -> list[bytes]:
        """Write the lines."""
        luck = random.Random(self.name)
        common = _words(luck, self.common_tokens)
        beginnings = [common + _words(luck, self.beginning_tokens) for _ in range(self.beginnings)]
        lines = [self._line(luck, beginnings[n % self.beginnings]) for n in range(self.lines)]
        luck.shuffle(lines)
        return lines

    def _line(self, luck: random.Random, beginning: str) -> bytes:
        messages = [
            {"role": "system", "content": beginning},
            {"role": "user", "content": _words(luck, self.own_tokens)},
        ]
        return json.dumps({"body": {"messages": messages}}).encode()


def _words(luck: random.Random, tokens: int) -> str:
    return "".join(f"{luck.randrange(1 << 16):03x} "[-4:] for _ in range(tokens))


def prompt_of(line: bytes) -> bytes:
    """Write the prompt of a line as a chat template would."""
    return b"".join(message["content"].encode() for message in json.loads(line)["body"]["messages"])


WORKLOADS = (
    Workload("20 system prompts of 1,000 tokens", 4_000, 20, 1_000, 200),
    Workload("200 system prompts of 1,000 tokens", 4_000, 200, 1_000, 200),
    Workload("200 prompts that begin alike for 500 of 1,000", 4_000, 200, 500, 200, common_tokens=500),
    Workload("1,000 documents of 2,000 tokens, 4 questions each", 4_000, 1_000, 2_000, 50),
    Workload("one system prompt of 1,000 tokens", 4_000, 1, 1_000, 200),
    Workload("no two prompts alike", 4_000, 4_000, 1_000, 200),
)
CACHES = (10_000, 100_000)


def show() -> Iterator[str]:
    """Write the table."""
    columns = [(is_early, blocks) for is_early in (True, False) for blocks in CACHES]
    when = {True: "early", False: "late"}
    names = [f"{when[is_early]}, {blocks * 16 // 1000}k" for is_early, blocks in columns]
    yield f"| lines | {' | '.join(names)} |"
    yield f"| --- {'| --- ' * len(columns)}|"
    for workload in WORKLOADS:
        in_file = workload.build()
        orders = [[*map(prompt_of, lines)] for lines in (in_file, ordered(in_file))]
        rates = [[hit_rate(prompts, PrefixCache(n, early)) for prompts in orders] for early, n in columns]
        yield f"| {workload.name} | {' | '.join(f'{file:.0%} -> {prefix:.0%}' for file, prefix in rates)} |"


if __name__ == "__main__":
    for row in show():
        print(row, flush=True)
