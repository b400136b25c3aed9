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
    Body,
    Line,
    LineFault,
    LineSplitter,
    check_body,
    count_embedding_inputs,
    parse_line,
    parse_lines,
    request_of,
    wrong_url,
)
from nightshift_crds.models import MAX_ERRORS, BatchError, EndpointVerdict, Fault, ModelLines, Part, Verdict

MAX_MODELS = 8
MAX_VERDICT_BYTES = 64 * 1024
"""What a StoredFile's status may hold; endpoints that do not fit are left to an `inspect` Job."""
_PLAIN_ID_CHARS = 32
_TAKEN = LineFault("duplicate_custom_id", "Expected a 'custom_id' that no line above has.", "custom_id")


@dataclass(frozen=True)
class Limits:
    """Bounds of one inspection.

    Attributes:
        max_lines: request lines after which lines are only counted: such a file has no verdict but its length.
        max_line_bytes: length in bytes over which a line is refused unread.
    """

    max_lines: int
    max_line_bytes: int


@dataclass(slots=True)
class _Tally:
    """The numbers of the first lines of a sort, and how many there are."""

    lines: list[int] = field(default_factory=list)
    count: int = 0

    def add(self, number: int) -> None:
        self.count += 1
        if self.count <= MAX_ERRORS + 1:
            self.lines.append(number)

    def sum_up(self, name: str) -> ModelLines:
        return ModelLines(name=name, lines=self.lines, count=self.count)


@dataclass(slots=True)
class _Refused:
    """The first lines that cannot be part of a batch, and how many there are."""

    errors: list[BatchError] = field(default_factory=list)
    count: int = 0

    def add(self, number: int, fault: LineFault) -> None:
        self.count += 1
        if self.count <= MAX_ERRORS:
            self.errors.append(BatchError(code=fault.code, message=fault.message, param=fault.param, line=number))


@dataclass(slots=True)
class _Findings:
    """What was found on the lines for one endpoint."""

    endpoint: str
    refused: _Refused = field(default_factory=_Refused)
    models: dict[str, _Tally] = field(default_factory=dict)
    others: _Tally = field(default_factory=_Tally)
    first_other: str = ""

    def take(self, number: int, body: Body) -> None:
        fault = check_body(body, self.endpoint)
        if fault:
            self.refused.add(number, fault)
            return
        model = str(body.model)
        tally = self.models.get(model)
        if tally is None:
            tally = self._make_tally(model)
        tally.add(number)

    def _make_tally(self, model: str) -> _Tally:
        if len(self.models) < MAX_MODELS:
            return self.models.setdefault(model, _Tally())
        self.first_other = self.first_other or model
        return self.others

    @property
    def count(self) -> int:
        return self.refused.count + self.others.count + sum(tally.count for tally in self.models.values())

    @property
    def lines(self) -> list[int]:
        """The numbers of the first lines for this endpoint, in no order."""
        tallied = [number for tally in (*self.models.values(), self.others) for number in tally.lines]
        return tallied + [error.line or 0 for error in self.refused.errors]


class Inspection:
    """One pass over the bytes of an input: feed it every chunk, then ask for the verdict."""

    def __init__(self, endpoints: Sequence[str], limits: Limits) -> None:
        self._limits = limits
        self._findings = {endpoint: _Findings(endpoint) for endpoint in endpoints}
        self._unsound = _Refused()
        self._elsewhere = _Tally()
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
        first, last = chunk.find(b"\n") + 1, chunk.rfind(b"\n") + 1
        self._inspect_each(chunk[:first])
        self._inspect_all(chunk, first, last)
        self._inspect_each(chunk[last:])

    def finish(self) -> Verdict:
        """Take the last line and sum up, whole."""
        for raw in self._splitter.finish():
            self._inspect(raw)
        is_too_long = self._lines > self._limits.max_lines
        return Verdict(
            lines=self._lines,
            bytes=self._size,
            crc32c=self._crc32c,
            embedding_inputs=self._embedding_inputs,
            endpoints={} if is_too_long else {endpoint: self._sum_up(endpoint) for endpoint in self._findings},
        )

    def _inspect_all(self, chunk: bytes, start: int, end: int) -> None:
        """Inspect whole lines at once, which is twice as quick; one by one if there is anything odd about one."""
        lines = parse_lines(chunk, start, end) if end - start <= self._limits.max_line_bytes else None
        if lines is None:
            self._inspect_each(chunk[start:end])
            return
        for line in lines[: max(self._limits.max_lines - self._lines, 0)]:
            self._number += 1
            self._take(line)
        self._lines += len(lines)

    def _inspect_each(self, chunk: bytes) -> None:
        for raw in self._splitter.feed(chunk):
            self._inspect(raw)

    def _inspect(self, raw: bytes | None) -> None:
        self._number += 1
        if raw is not None:
            raw = request_of(raw, is_first=self._number == 1)
            if not raw:
                return
        self._lines += 1
        if self._lines <= self._limits.max_lines:
            try:
                self._take(self._parse(raw))
            except LineFault as fault:
                self._unsound.add(self._number, fault)

    def _parse(self, raw: bytes | None) -> Line:
        if raw is None:
            message = f"Expected this line to have at most {self._limits.max_line_bytes} bytes."
            raise LineFault("invalid_request", message)
        return parse_line(raw)

    def _take(self, line: Line) -> None:
        """Note a line that is sound in itself, unless its id is taken."""
        id_ = line.custom_id
        # Long ids are kept as digests, so that what 50,000 of them take does not depend on their length.
        key = id_ if len(id_) <= _PLAIN_ID_CHARS else blake2b(id_.encode(), digest_size=16).digest()
        known = len(self._seen)
        self._seen.add(key)
        if len(self._seen) == known:
            self._unsound.add(self._number, _TAKEN)
            return
        if line.url == EMBEDDINGS and line.body.input:
            self._embedding_inputs += count_embedding_inputs(line.body.input)
        if findings := self._findings.get(line.url):
            findings.take(self._number, line.body)
        else:  # wrong for every endpoint, as the lines for one are for all others: `_sum_up` says so
            self._elsewhere.add(self._number)

    def _sum_up(self, endpoint: str) -> EndpointVerdict:
        found = self._findings[endpoint]
        others = [findings for url, findings in self._findings.items() if url != endpoint]
        elsewhere = [*self._elsewhere.lines, *(number for findings in others for number in findings.lines)]
        wrong = wrong_url(endpoint)
        errors = [
            *self._unsound.errors,
            *found.refused.errors,
            *(BatchError(code=wrong.code, message=wrong.message, param=wrong.param, line=n) for n in elsewhere),
        ]
        errors.sort(key=lambda error: error.line or 0)
        return EndpointVerdict(
            faults=Fault.group(errors[:MAX_ERRORS]),
            error_count=self._unsound.count + found.refused.count + self._lines_elsewhere(others),
            models=[tally.sum_up(name) for name, tally in found.models.items()],
            other_models=found.others.sum_up(found.first_other) if found.others.count else None,
        )

    def _lines_elsewhere(self, others: list[_Findings]) -> int:
        return self._elsewhere.count + sum(findings.count for findings in others)


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
