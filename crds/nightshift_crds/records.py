"""What a running batch writes into the bucket: the records of its logs, its progress, and at the end its manifest.

Pure: bytes to values and back. A record is one JSON header line, then output lines, then error lines. Its header
carries the whole state of its slice up to there, so that a resuming writer reads one header and nothing else. The
rules of who may append what are design 5, "The commit protocol"; `slicelog` reads logs, the processor writes them.
"""

import zlib
from array import array
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Self

import msgspec
from msgspec import Struct

from nightshift_crds.lifecycle import Sealing
from nightshift_crds.lines import Usage
from nightshift_crds.models import Counts, TokenUsage
from nightshift_crds.names import ResultKind

ZERO_USAGE = Usage()


class RecordKind(StrEnum):
    """What a record says besides its lines."""

    CLAIM = "claim"
    """A writer takes the log over: whoever wrote before is fenced."""
    PART = "part"
    """Results of some lines."""
    END = "end"
    """Results of the last lines: the slice is complete."""
    CLOSE = "close"
    """Seal has taken the log over: nothing more can come."""


class Ledger:
    """Which items of an input are done, as a bitmap over their numbers in the file."""

    def __init__(self, items: int) -> None:
        self._bits = bytearray((items + 7) // 8)

    def add(self, items: Iterable[int]) -> None:
        """Note items as done."""
        bits = self._bits
        for item in items:
            bits[item >> 3] |= 1 << (item & 7)

    def __contains__(self, item: int) -> bool:
        return bool(self._bits[item >> 3] & (1 << (item & 7)))

    def left_of(self, items: Iterable[int]) -> "array[int]":
        """Give those of some items that are not done."""
        is_blank = not any(self._bits)  # as most are that are asked
        return array("I", items if is_blank else (item for item in items if item not in self))

    def pack(self) -> bytes:
        """Write the bitmap small; most of it is runs."""
        return zlib.compress(self._bits, 1)

    @classmethod
    def unpack(cls, packed: bytes, items: int) -> Self:
        """Read a bitmap over that many items; raises ValueError if it is one over another number."""
        ledger = cls(items)
        bits = bytearray(zlib.decompress(packed)) if packed else ledger._bits
        if len(bits) != len(ledger._bits):
            raise ValueError(f"a ledger of {len(bits)} bytes is not one over {items} items")
        ledger._bits = bits
        return ledger

    def merge(self, other: "Ledger") -> None:
        """Add all that another ledger over the same input has."""
        self._bits = bytearray(a | b for a, b in zip(self._bits, other._bits, strict=True))  # noqa: SLF001 - its own kind


class State(Struct, frozen=True, kw_only=True):
    """All that a slice has come to: counts and sizes from its first record on, and which items are done."""

    completed: int = 0
    failed: int = 0
    usage: Usage = ZERO_USAGE
    output_bytes: int = 0
    error_bytes: int = 0
    done: bytes = b""


class Claimant(Struct, frozen=True):
    """Which pod it is that writes: those of one attempt share its slices.

    Attributes:
        attempt: the run Job's, from 1.
        index: of the pod in that Job; the pod that replaces one has the same.
    """

    attempt: int
    index: int


class Header(Struct, frozen=True, kw_only=True):
    """The first line of a record.

    Attributes:
        writer: a uuid of the process that wrote it: 412 on a record of our own is our lost answer.
        by: the pod that this process was; None for seal, and in logs of versions whose pods shared no slices.
        state: of the slice up to and including this record.
        output_length: bytes of output lines in this record.
        error_length: bytes of error lines behind them.
    """

    kind: RecordKind
    writer: str
    by: Claimant | None = None
    state: State
    output_length: int = 0
    error_length: int = 0


_encode = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(Header).decode


def encode_record(header: Header, lines: Iterable[bytes] = ()) -> bytes:
    """Write a record; `lines` are its output lines and then its error lines."""
    return b"".join([_encode(header), b"\n", *lines])


def decode_header(line: bytes) -> Header:
    """Read the header line of a record; raises msgspec.DecodeError if it is none."""
    return _decode_header(line)


class Progress(Struct, frozen=True, kw_only=True):
    """What a writer reports of its slice: durable lines only.

    Attributes:
        seq: the last record that is counted.
        rate: lines per second over the last report.
    """

    seq: int
    state: State
    rate: float = 0.0


def encode_progress(progress: Progress) -> bytes:
    """Write a progress object; the bitmap stays in the log."""
    slim = msgspec.structs.replace(progress, state=msgspec.structs.replace(progress.state, done=b""))
    return _encode(slim)


def decode_progress(data: bytes) -> Progress:
    """Read a progress object."""
    return msgspec.json.decode(data, type=Progress)


def sum_states(states: Iterable[State]) -> State:
    """Add up what several slices have come to; which items are done is left out."""
    total = State()
    for state in states:
        total = State(
            completed=total.completed + state.completed,
            failed=total.failed + state.failed,
            usage=total.usage + state.usage,
            output_bytes=total.output_bytes + state.output_bytes,
            error_bytes=total.error_bytes + state.error_bytes,
        )
    return total


class SealedFile(Struct, frozen=True, kw_only=True):
    """A result file as the manifest vouches for it."""

    file_id: str
    bytes: int
    crc32c: int
    lines: int


class BatchManifest(Struct, frozen=True, kw_only=True):
    """The commit point of a batch: what its files hold. Written once, last.

    The usage is of the lines that the batch has sent; the other numbers also count lines that it has taken over.
    """

    reason: Sealing
    completed: int
    failed: int
    usage: Usage
    files: Mapping[ResultKind, SealedFile]


def encode_manifest(manifest: BatchManifest) -> bytes:
    """Write the manifest; equal manifests are equal bytes."""
    return msgspec.json.encode(manifest, order="deterministic")


def decode_manifest(data: bytes) -> BatchManifest:
    """Read the manifest; raises msgspec.DecodeError if it is none."""
    return msgspec.json.decode(data, type=BatchManifest)


def counts_of(state: State | BatchManifest, total: int, reused: int = 0) -> Counts:
    """Show counts as a BatchJob's status does; a manifest's have the lines that were taken over, a state's do not."""
    return Counts(total=total, completed=state.completed + reused, failed=state.failed)


def usage_of(usage: Usage) -> TokenUsage:
    """Show usage as a BatchJob's status does."""
    return TokenUsage(**msgspec.structs.asdict(usage))
