"""Bring files here: whole under their name only once they are, going on where an earlier try broke off.

A file that a batch still writes to has no ranges: what is there of it now may have another place in it later
(docs/decisions/0009). So what is followed is read again and again, and each line is taken the first time that it is
seen. Lines are whole always, wherever they go.
"""

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from rich.console import Console

from nightshift_cli.following import Patience
from nightshift_cli.port import Content, Service
from nightshift_cli.progress import showing, showing_bytes
from nightshift_cli.views import BatchView
from nightshift_crds.errors import Rejected, Unavailable

STDOUT = Path("-")
_POLL_S = 1.0
_SHARE = 5
"""A file that grows is read again after as many times what reading it took: of time and traffic it takes a sixth."""


class _Sink(Protocol):
    """Where bytes go. `turn_to` says which version of the file comes, and gives how much of that is there."""

    def turn_to(self, etag: str | None) -> int: ...

    def write(self, chunk: bytes) -> None: ...

    def restart(self) -> None: ...


def fetch(service: Service, file_id: str, path: Path, patience: Patience) -> bool:
    """Fetch what there is of a file; gives whether more will come.

    Raises:
        Rejected: the file cannot be written here.
        Unavailable: the server stopped answering; the same call goes on where this one ended.
    """
    if path == STDOUT:
        with _Pipe(sys.stdout.buffer) as pipe:
            return _transfer(service, file_id, pipe, patience)
    with _writing(path, file_id):
        draft = _Draft(path, file_id)
        try:
            is_growing = _transfer(service, file_id, draft, patience)
        finally:
            draft.close()
        draft.path.replace(path)
        return is_growing


def _transfer(service: Service, file_id: str, sink: _Sink, patience: Patience) -> bool:
    while True:
        try:
            with service.open_content(file_id) as content:
                have = sink.turn_to(content.etag)
                if not have:
                    _copy(content, sink, patience)
            if 0 < have < content.size:
                with service.open_content(file_id, have, content.etag) as rest:
                    _copy(rest, sink, patience)
        except Unavailable as error:
            patience.wait(error)
        else:
            return content.is_growing


def _copy(content: Content, sink: _Sink, patience: Patience) -> None:
    if not content.start:
        sink.restart()
    done = content.start
    with showing_bytes(Console(stderr=True), content.size, time.monotonic) as show:
        for chunk in content.chunks:
            sink.write(chunk)
            patience.heard()
            done += len(chunk)
            show(done)


class _Draft:
    """A file beside the one that is wanted. Its name says of which bytes it is the beginning."""

    def __init__(self, path: Path, file_id: str) -> None:
        self._wanted = path
        self._file_id = file_id
        self.path = path
        self._file: BinaryIO | None = None

    def turn_to(self, etag: str | None) -> int:
        self.close()
        version = hashlib.sha256(f"{self._file_id} {etag}".encode()).hexdigest()[:8]
        self.path = self._wanted.with_name(f"{self._wanted.name}.{version}.part")
        self._file = self.path.open("ab" if etag else "wb")
        return self._file.tell()

    def restart(self) -> None:
        assert self._file
        self._file.truncate(0)

    def write(self, chunk: bytes) -> None:
        assert self._file
        self._file.write(chunk)

    def close(self) -> None:
        if self._file:
            self._file.close()


class _Pipe:
    """Standard output: whole lines only, and nothing twice."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._etag: str | None = None
        self._taken = 0
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """An input may lack its last newline; what broke off in the middle of a line is not given."""
        self._out.write(b"" if kind else self._rest)
        self._out.flush()

    def turn_to(self, etag: str | None) -> int:
        if self._taken and (etag is None or etag != self._etag):
            raise Rejected("The file changed while it was read. Begin again, or name an --output.", status=409)
        self._etag = etag
        return self._taken

    def restart(self) -> None:
        if self._taken:
            raise Rejected("The download broke off and cannot go on. Begin again, or name an --output.", status=409)

    def write(self, chunk: bytes) -> None:
        self._taken += len(chunk)
        lines, newline, rest = chunk.rpartition(b"\n")
        if newline:
            self._out.write(self._rest + lines + newline)
            self._rest = rest
        else:
            self._rest += rest


@contextmanager
def _writing(path: Path, file_id: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Rejected(f"{path} cannot be written: {error.strerror}. {file_id} stays there.") from None


def check_folder(path: Path) -> None:
    """Refuse, before anything is sent, results that could not be written. Raises `Rejected`."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise Rejected(f"There is no folder {folder} for the results. Make it, or name another --output.")
    if not os.access(folder, os.W_OK):
        raise Rejected(f"The folder {folder} cannot be written. Name an --output elsewhere.")


# --- while it grows ---------------------------------------------------------------------------------------------------


def fetch_growing(
    service: Service, batch: BatchView, path: Path, patience: Patience, *, choose: Callable[[BatchView], str | None]
) -> int:
    """Take the lines of a result file as they come, until its batch has ended; gives how many there are.

    `choose` gives the file's id, None as long as it has no line. Lines that are in the file at `path` are kept and not
    taken again.

    Raises:
        Rejected: the file cannot be written here.
    """
    with _writing(path, batch.ref), _open_lines(path) as (out, seen), _showing_unless_mixed(path, batch) as show:
        lines = _Lines(out, seen)
        while True:
            begun_s = time.monotonic()
            now = patience.insist(lambda: service.get(batch.ref))
            show(now)
            file_id = choose(now)
            if file_id and not patience.insist(lambda file_id=file_id: lines.take_from(service, file_id)):  # type: ignore[misc]
                return len(seen)
            if now.has_ended and not file_id:
                return len(seen)
            time.sleep(max(_POLL_S, _SHARE * (time.monotonic() - begun_s)))


class _Lines:
    """Writes each line of a file the first time that it is seen: result lines differ, each has an id of its own."""

    def __init__(self, out: BinaryIO, seen: set[bytes]) -> None:
        self._out = out
        self._seen = seen
        self._size = -1

    def take_from(self, service: Service, file_id: str) -> bool:
        """Read what there is; gives whether more will come."""
        with service.open_content(file_id) as content:
            if content.size != self._size or not content.is_growing:
                for line in _whole_lines(content.chunks):
                    self._take(line)
                self._out.flush()
                self._size = content.size
            return content.is_growing

    def _take(self, line: bytes) -> None:
        if (mark := _mark(line)) not in self._seen:
            self._out.write(line)
            self._seen.add(mark)


def _mark(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()


def _whole_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Give the lines that have an end, with it."""
    pieces: list[bytes] = []
    for chunk in chunks:
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            yield b"".join([*pieces, line, b"\n"])
            pieces = []
        pieces.append(rest)


@contextmanager
def _open_lines(path: Path) -> Iterator[tuple[BinaryIO, set[bytes]]]:
    """Open a file for more lines; gives the marks of those that it has. What an earlier try wrote half is cut off."""
    if path == STDOUT:
        yield sys.stdout.buffer, set()
        return
    with path.open("a+b") as out:
        out.seek(0)
        seen, size = set(), 0
        for line in out:
            if line.endswith(b"\n"):
                seen.add(_mark(line))
                size += len(line)
        out.truncate(size)
        yield out, seen


@contextmanager
def _showing_unless_mixed(path: Path, batch: BatchView) -> Iterator[Callable[[BatchView], None]]:
    """Show how the batch goes, unless its lines go to the same terminal."""
    if path == STDOUT and sys.stdout.isatty():
        yield lambda _: None
        return
    with showing(Console(stderr=True), [batch.ref]) as show:
        yield show
