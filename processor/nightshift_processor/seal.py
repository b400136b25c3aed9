"""`seal`: close the logs, make the two files of them, and commit the batch with its manifest (design 5).

The files are a pure function of the closed logs and the reason, in the order of slices and records, so sealing twice
is harmless: everything is written create-only, and what is there already must be what would be written. Lines that a
rerun has taken over stand before those of its logs.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, closing
from dataclasses import dataclass
from uuid import uuid4

import structlog
from google_crc32c import extend

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket, get
from nightshift_crds.errors import AlreadyExists, Missing, NightshiftError
from nightshift_crds.exits import Exit
from nightshift_crds.lifecycle import Sealing
from nightshift_crds.lines import LineError, parse_item, render_error
from nightshift_crds.names import ResultKind
from nightshift_crds.records import (
    BatchManifest,
    Header,
    Ledger,
    RecordKind,
    SealedFile,
    State,
    encode_manifest,
    encode_record,
    sum_states,
)
from nightshift_crds.several import each_of
from nightshift_crds.slicelog import Tail, read_header, read_lines, read_tails
from nightshift_processor.settings import SealSettings
from nightshift_processor.spool import InputChanged, Spool, fill_spool, open_spool

_log = structlog.get_logger()
NEVER_RAN = {
    Sealing.CANCELLED: LineError("batch_cancelled", "This request was not executed before the batch was cancelled."),
    Sealing.EXPIRED: LineError("batch_expired", "This request was not executed before the completion window expired."),
}


class Conflict(NightshiftError):
    """What has been sealed before is not what the logs say."""


@dataclass(frozen=True)
class ClosedLog:
    """A log that nothing can be appended to any more.

    Attributes:
        records: how many records it has, the closing one left out.
    """

    slice_no: int
    records: int
    state: State


async def seal(settings: SealSettings, bucket: Bucket) -> Exit:
    """Seal a batch."""
    try:
        manifest = await _seal(settings, bucket)
    except Conflict as error:
        _log.error("seal.conflict", problem=str(error))
        return Exit.CONFLICT
    _log.info("batch.sealed", reason=manifest.reason, completed=manifest.completed, failed=manifest.failed)
    return Exit.DONE


async def _seal(settings: SealSettings, bucket: Bucket) -> BatchManifest:
    logs = await _close_logs(bucket, settings.batch_uid, settings.slices)
    total = sum_states(log.state for log in logs)
    files = {}
    with closing(await _spool_if_needed(settings, bucket, total)) as spool:
        sources = _Sources(settings, bucket, logs, spool)
        if total.output_bytes or settings.reused:
            files[ResultKind.OUTPUT] = await _write_file(bucket, settings.output_file_id, sources.output_lines)
        if total.error_bytes or len(spool):
            files[ResultKind.ERROR] = await _write_file(bucket, settings.error_file_id, sources.error_lines)
    manifest = BatchManifest(
        reason=settings.reason,
        completed=total.completed + settings.reused,
        failed=total.failed,
        usage=total.usage,
        files=files,
    )
    await _commit(bucket, names.manifest_key(settings.batch_uid), encode_manifest(manifest))
    return manifest


async def _close_logs(bucket: Bucket, batch_uid: str, slices: int) -> list[ClosedLog]:
    tails = await read_tails(bucket, batch_uid)
    return await each_of(lambda n: _close_log(bucket, batch_uid, n, tails.get(n)), range(slices))


async def _close_log(bucket: Bucket, batch_uid: str, slice_no: int, tail: Tail | None) -> ClosedLog:
    """Append a `close`, behind whatever stands in the log; one that is closed already stays as it is."""
    seq, header = (tail.seq, tail.header) if tail else (-1, None)
    while header is None or header.kind is not RecordKind.CLOSE:
        seq += 1
        key = names.record_key(batch_uid, slice_no, seq)
        close = Header(kind=RecordKind.CLOSE, writer=str(uuid4()), state=header.state if header else State())
        try:
            await bucket.put(key, encode_record(close), create_only=True)
            header = close
        except AlreadyExists:
            header = await read_header(bucket, key)
    return ClosedLog(slice_no, seq, header.state)


async def _spool_if_needed(settings: SealSettings, bucket: Bucket, total: State) -> Spool:
    """Fetch the input if rows that never ran are to be written; an empty spool if not, or if it cannot be had."""
    if settings.reason in NEVER_RAN and total.completed + total.failed < settings.items:
        try:
            return await fill_spool(bucket, settings.input_key, settings.input_crc32c, settings.scratch_dir)
        except (Missing, InputChanged) as error:
            _log.error("input.unusable", problem=type(error).__name__)  # the batch must end all the same
    return open_spool(settings.scratch_dir)


@dataclass(frozen=True)
class _Sources:
    """Where the lines of the two files come from."""

    settings: SealSettings
    bucket: Bucket
    logs: list[ClosedLog]
    spool: Spool

    async def output_lines(self) -> AsyncGenerator[bytes, None]:
        """Stream the lines of the output file: what was taken over, then what succeeded."""
        if self.settings.reused:
            async with aclosing(self.bucket.read(names.reused_key(self.settings.batch_uid))) as chunks:
                async for chunk in chunks:
                    yield chunk
        async with aclosing(self._logged(ResultKind.OUTPUT)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def error_lines(self) -> AsyncGenerator[bytes, None]:
        """Stream the lines of the error file: what failed, then what never ran."""
        async with aclosing(self._logged(ResultKind.ERROR)) as chunks:
            async for chunk in chunks:
                yield chunk
        for line in self._never_ran():
            yield line

    async def _logged(self, kind: ResultKind) -> AsyncGenerator[bytes, None]:
        async with aclosing(read_lines(self.bucket, self._keys(kind), kind)) as chunks:
            async for chunk in chunks:
                yield chunk

    def _keys(self, kind: ResultKind) -> Iterator[str]:
        for log in self.logs:
            size = log.state.output_bytes if kind is ResultKind.OUTPUT else log.state.error_bytes
            for seq in range(log.records if size else 0):
                yield names.record_key(self.settings.batch_uid, log.slice_no, seq)

    def _never_ran(self) -> Iterator[bytes]:
        """Write the rows of the input that no log has an outcome of."""
        items = len(self.spool)
        ledger = Ledger(items)
        for log in self.logs if items else ():
            ledger.merge(Ledger.unpack(log.state.done, items))
        for item in range(items):
            if item not in ledger:
                custom_id = parse_item(self.spool.read(item)).custom_id
                line_id = names.line_id(self.settings.batch_uid, item)
                yield render_error(line_id, custom_id, NEVER_RAN[self.settings.reason])


async def _write_file(bucket: Bucket, file_id: str, lines: Callable[[], AsyncGenerator[bytes, None]]) -> SealedFile:
    """Write a result file, or see that the one that is there is the same."""
    key = names.file_key(file_id)
    measure = _Measure()
    try:
        await bucket.put(key, measure.passing(lines()), create_only=True)
    except AlreadyExists:
        measure = _Measure()
        async for _ in measure.passing(lines()):
            pass
        if await bucket.checksum(key) != measure.crc32c:
            raise Conflict(f"{key} is not what the logs hold") from None
    return SealedFile(file_id=file_id, bytes=measure.size, crc32c=measure.crc32c, lines=measure.lines)


@dataclass
class _Measure:
    """What goes through it, counted."""

    size: int = 0
    crc32c: int = 0
    lines: int = 0

    async def passing(self, chunks: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
        """Let chunks through."""
        async with aclosing(chunks):
            async for chunk in chunks:
                self.size += len(chunk)
                self.crc32c = extend(self.crc32c, chunk)
                self.lines += chunk.count(b"\n")
                yield chunk


async def _commit(bucket: Bucket, key: str, manifest: bytes) -> None:
    try:
        await bucket.put(key, manifest, create_only=True)
    except AlreadyExists:
        if await get(bucket, key) != manifest:
            raise Conflict(f"{key} says something else") from None
