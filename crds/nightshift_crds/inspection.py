"""Check the lines of an input while its bytes go by, and sum the findings up as a `Verdict`.

Pure, and bounded: it holds one line, the ids seen so far and the first errors. The API feeds it during an upload,
`nightshift-processor inspect` feeds it an input that no upload has checked. Which models exist is not asked here: the
catalogue may change before a batch names the file. Sources: contract 8, design 4 (StoredFile).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from google_crc32c import extend

from nightshift_crds.lines import (
    EMBEDDINGS,
    Line,
    LineFault,
    LineSplitter,
    check_line,
    count_embedding_inputs,
    parse_line,
    request_of,
)
from nightshift_crds.models import MAX_ERRORS, BatchError, EndpointVerdict, ModelLines, Part, Verdict

MAX_MODELS = 8
MAX_VERDICT_BYTES = 64 * 1024
"""What a StoredFile's status may hold; endpoints that do not fit are left to an `inspect` Job."""
_PLAIN_ID_CHARS = 32


@dataclass(frozen=True)
class Limits:
    """Bounds of one inspection.

    Attributes:
        max_lines: request lines after which lines are only counted: such a file has no verdict but its length.
        max_line_bytes: length in bytes over which a line is refused unread.
    """

    max_lines: int
    max_line_bytes: int


@dataclass
class _Tally:
    """Lines that name one model."""

    lines: list[int] = field(default_factory=list)
    count: int = 0

    def add(self, number: int) -> None:
        self.count += 1
        if len(self.lines) <= MAX_ERRORS:
            self.lines.append(number)

    def sum_up(self, name: str) -> ModelLines:
        return ModelLines(name=name, lines=self.lines, count=self.count)


@dataclass
class _Findings:
    """What a batch on one endpoint would find."""

    errors: list[BatchError] = field(default_factory=list)
    error_count: int = 0
    models: dict[str, _Tally] = field(default_factory=dict)
    others: _Tally = field(default_factory=_Tally)
    first_other: str = ""

    def refuse(self, number: int, fault: LineFault) -> None:
        self.error_count += 1
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(BatchError(code=fault.code, message=fault.message, param=fault.param, line=number))

    def accept(self, number: int, model: str) -> None:
        tally = self.models.get(model)
        if tally is None and len(self.models) < MAX_MODELS:
            tally = self.models[model] = _Tally()
        if tally is None:
            tally = self.others
            self.first_other = self.first_other or model
        tally.add(number)

    def sum_up(self) -> EndpointVerdict:
        return EndpointVerdict(
            errors=self.errors,
            error_count=self.error_count,
            models=[tally.sum_up(name) for name, tally in self.models.items()],
            other_models=self.others.sum_up(self.first_other) if self.others.count else None,
        )


class Inspection:
    """One pass over the bytes of an input: feed it every chunk, then ask for the verdict."""

    def __init__(self, endpoints: Sequence[str], limits: Limits) -> None:
        self._limits = limits
        self._findings = {endpoint: _Findings() for endpoint in endpoints}
        self._splitter = LineSplitter(limits.max_line_bytes)
        self._crc32c = 0
        self._size = 0
        self._number = 0
        self._lines = 0
        self._embedding_inputs = 0
        self._seen: set[str | bytes] = set()

    @property
    def size(self) -> int:
        """Bytes fed so far."""
        return self._size

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the file."""
        self._size += len(chunk)
        self._crc32c = extend(self._crc32c, chunk)
        for raw in self._splitter.feed(chunk):
            self._inspect(raw)

    def finish(self) -> Verdict:
        """Take the last line and sum up, whole."""
        for raw in self._splitter.finish():
            self._inspect(raw)
        return Verdict(
            lines=self._lines,
            bytes=self._size,
            crc32c=self._crc32c,
            embedding_inputs=self._embedding_inputs,
            endpoints={} if self._lines > self._limits.max_lines else self._sum_up(),
        )

    def _sum_up(self) -> dict[str, EndpointVerdict]:
        return {endpoint: findings.sum_up() for endpoint, findings in self._findings.items()}

    def _inspect(self, raw: bytes | None) -> None:
        self._number += 1
        if raw is not None:
            raw = request_of(raw, is_first=self._number == 1)
            if not raw:
                return
        self._lines += 1
        if self._lines <= self._limits.max_lines:
            self._check(raw)

    def _check(self, raw: bytes | None) -> None:
        try:
            line = self._parse(raw)
        except LineFault as fault:
            for findings in self._findings.values():
                findings.refuse(self._number, fault)
            return
        for endpoint, findings in self._findings.items():
            fault_here = check_line(line, endpoint)
            if fault_here:
                findings.refuse(self._number, fault_here)
            else:
                findings.accept(self._number, str(line.body.model))
        if line.url == EMBEDDINGS and line.body.input:
            self._embedding_inputs += count_embedding_inputs(line.body.input)

    def _parse(self, raw: bytes | None) -> Line:
        if raw is None:
            message = f"Expected this line to have at most {self._limits.max_line_bytes} bytes."
            raise LineFault("invalid_request", message)
        line = parse_line(raw)
        self._remember(line.custom_id)
        return line

    def _remember(self, custom_id: str) -> None:
        # Long ids are kept as digests, so that what 50,000 of them take does not depend on their length.
        key = custom_id if len(custom_id) <= _PLAIN_ID_CHARS else blake2b(custom_id.encode(), digest_size=16).digest()
        if key in self._seen:
            raise LineFault("duplicate_custom_id", "Expected a 'custom_id' that no line above has.", "custom_id")
        self._seen.add(key)


def fit_verdict(verdict: Verdict, max_bytes: int = MAX_VERDICT_BYTES) -> Verdict:
    """Leave out the largest endpoints until the verdict fits into a StoredFile's status."""
    sizes = {name: _size_of(found) for name, found in verdict.endpoints.items()}
    fitted = verdict
    while fitted.endpoints and _size_of(fitted) > max_bytes:
        largest = max(fitted.endpoints, key=lambda name: sizes[name])
        kept = {name: found for name, found in fitted.endpoints.items() if name != largest}
        fitted = fitted.model_copy(update={"endpoints": kept})
    return fitted


def _size_of(part: Part) -> int:
    return len(part.model_dump_json(by_alias=True, exclude_none=True).encode())
