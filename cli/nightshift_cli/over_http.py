"""The port over the API, by the official OpenAI client; what the SDK has no call for is posted with it all the same.

Nothing here shows a key: neither ours nor one that a server sends back.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote
from uuid import uuid4

import httpx2
import openai
from openai import OpenAI
from openai.types import Batch

from nightshift_cli.port import Content, NewBatch, Page, Wanted
from nightshift_cli.views import BatchView, Document, ModelView, view_of_api
from nightshift_crds.errors import Conflict, NotFound, Rejected, Unavailable

_TIMEOUT_S = 30.0
_UPLOAD_TIMEOUT_S = 600.0
_RETRIES = 8
"""Of a request whose loss would cost an upload; others are few, and watching has a patience of its own."""
_PAGE_SIZE = 100
_MORE = "Nightshift-More"


class OverHttp:
    """The `Service` port over the API; see `open_http`."""

    has_bytes = True

    def __init__(self, client: OpenAI) -> None:
        self._client = client

    def list(self, wanted: Wanted) -> Page:
        """See the port. The API has no filter: what is not wanted is left out here."""
        asked: dict[str, Any] = {"after": wanted.after} if wanted.after else {}
        found: list[BatchView] = []
        with self._translated():
            for batch in self._client.batches.list(limit=_page_size(wanted), **asked):
                if wanted.statuses and batch.status not in wanted.statuses:
                    continue
                if len(found) == wanted.limit:
                    return Page(tuple(found), has_more=True)
                found.append(view_of_api(_document(batch)))
        return Page(tuple(found), has_more=False)

    def get(self, ref: str) -> BatchView:
        """See the port."""
        with self._translated():
            return view_of_api(_document(self._client.batches.retrieve(ref)))

    def create(self, new: NewBatch) -> BatchView:
        """See the port."""
        if new.file_id is None:
            raise Rejected(
                "The API takes no --uri. Upload the file, or create the batch by 'kubectl nightshift submit'."
            )
        with self._translated():
            created = self._client.with_options(max_retries=_RETRIES).batches.create(
                input_file_id=new.file_id,
                endpoint=cast(Any, new.endpoint),  # the server says which endpoints there are
                completion_window="24h",
                metadata=dict(new.metadata) or None,
                extra_headers=_once(),
            )
            return view_of_api(_document(created))

    def cancel(self, ref: str) -> BatchView:
        """See the port."""
        with self._translated():
            return view_of_api(_document(self._client.batches.cancel(ref)))

    def suspend(self, ref: str) -> BatchView:
        """See the port."""
        return self._post(ref, "suspend", {})

    def resume(self, ref: str) -> BatchView:
        """See the port."""
        return self._post(ref, "resume", {})

    def rerun(self, ref: str, metadata: Mapping[str, str]) -> BatchView:
        """See the port."""
        return self._post(ref, "rerun", {"metadata": dict(metadata)} if metadata else {})

    def _post(self, ref: str, what: str, body: Mapping[str, Any]) -> BatchView:
        with self._translated():
            path = f"/batches/{quote(ref, safe='')}/{what}"
            answer = self._client.post(path, cast_to=Batch, body=dict(body), options={"headers": _once()})
            return view_of_api(_document(answer))

    def models(self) -> Sequence[ModelView]:
        """See the port."""
        with self._translated():
            return [ModelView(model.id, _document(model)) for model in self._client.models.list()]

    def upload(self, path: Path, show: Callable[[int], None]) -> str:
        """See the port."""
        client = self._client.with_options(max_retries=_RETRIES, timeout=_UPLOAD_TIMEOUT_S)
        with self._translated(), _Counted(path, show) as content:
            return client.files.create(file=(path.name, content), purpose="batch").id

    def open_content(self, file_id: str, start: int = 0, etag: str | None = None) -> AbstractContextManager[Content]:
        """See the port."""
        part = {"Range": f"bytes={start}-", "If-Range": etag} if start and etag else {}
        return self._content(file_id, {"Accept-Encoding": "identity"} | part)

    @contextmanager
    def _content(self, file_id: str, headers: Mapping[str, str]) -> Iterator[Content]:
        with ExitStack() as stack:
            with self._translated():
                asked = self._client.files.with_streaming_response.content(file_id, extra_headers=headers)
                response = stack.enter_context(asked)
            yield read_head(response.status_code, response.headers, self._read(response.iter_bytes()))

    def _read(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        with self._translated():
            yield from chunks

    def wrap(self, documents: Sequence[Document]) -> Document:
        """See the port."""
        return {"object": "list", "data": [*documents]}

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Say in words what went wrong, and what to do about it."""
        try:
            yield
        except openai.APIStatusError as error:
            raise refusal_of(error.status_code, _reason(error), str(self._client.base_url)) from None
        except (openai.APIConnectionError, httpx2.TransportError):
            raise Unavailable(
                f"No answer from {self._client.base_url}. Is it running, and is OPENAI_BASE_URL (--base-url) right?"
            ) from None
        except (openai.APIError, ValueError):
            raise _no_api(str(self._client.base_url)) from None


@contextmanager
def open_http(base_url: str | None, api_key: str | None) -> Iterator[OverHttp]:
    """Talk to the API at a URL.

    Raises:
        Rejected: the URL or the key is missing, or cannot be one.
    """
    given = {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": api_key}
    if missing := [name for name, value in given.items() if not value]:
        raise Rejected(f"Set {' and '.join(missing)}, for instance as 'nightshift local' prints them.")
    assert base_url
    assert api_key
    if not base_url.startswith(("http://", "https://")):
        raise Rejected(f"Expected --base-url (OPENAI_BASE_URL) to begin with http:// or https://, got {base_url!r}.")
    if not (api_key.isascii() and api_key.isprintable()) or " " in api_key:
        raise Rejected("Expected --api-key (OPENAI_API_KEY) to be one line of ASCII without spaces.", status=401)
    with OpenAI(base_url=base_url, api_key=api_key, timeout=_TIMEOUT_S) as client:
        yield OverHttp(client)


class _Counted(FileIO):
    """A file that tells how far it has been read."""

    def __init__(self, path: Path, show: Callable[[int], None]) -> None:
        super().__init__(path)
        self._show = show

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size)
        self._show(self.tell())
        return chunk


# --- requests and answers ---------------------------------------------------------------------------------------------


def read_head(status: int, headers: Mapping[str, str], chunks: Iterator[bytes]) -> Content:
    """Read what the head of a download says. Pure."""
    length = int(headers.get("Content-Length", 0))
    place, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    start = int(place.partition("-")[0]) if status == httpx2.codes.PARTIAL_CONTENT else 0
    is_growing = headers.get(_MORE) == "true"
    return Content(chunks, start, int(total) if start else length, headers.get("ETag"), is_growing)


def refusal_of(status: int, reason: str, base_url: str) -> Rejected | Unavailable:
    """Turn a refusal into the error that says what to do. Pure."""
    told = f"The server answered {status}: {reason}"
    if status == httpx2.codes.UNAUTHORIZED:
        return Rejected(f"{told} Is OPENAI_API_KEY (--api-key) a key of {base_url}?", status=status)
    if status == httpx2.codes.FORBIDDEN:
        return Rejected(f"{told} The key is good, but its owner may not do this: ask for the right.", status=status)
    if status == httpx2.codes.NOT_FOUND:
        return NotFound(f"{told} {_where_to_look(reason, base_url)}")
    if status == httpx2.codes.CONFLICT:
        return Conflict(told)
    if status == httpx2.codes.TOO_MANY_REQUESTS or status >= httpx2.codes.INTERNAL_SERVER_ERROR:
        return Unavailable(f"{told} Try again later.")
    return Rejected(told, status=status)


def _where_to_look(reason: str, base_url: str) -> str:
    if reason.startswith("No such"):
        return "Its id may be mistyped, or it belongs to another key; 'list' shows the batches of this one."
    return f"Is {base_url} (OPENAI_BASE_URL, --base-url) the API? It ends in /openai/v1 or /v1. Or the server is older."


def _reason(error: openai.APIStatusError) -> str:
    body = error.body
    reason = str(body["message"]) if isinstance(body, dict) and "message" in body else "no reason given"
    return f"{reason.rstrip('.')}."


def _document(answer: object) -> dict[str, Any]:
    """Give an answer as the server wrote it. Raises ValueError if it is no object of the API."""
    if not isinstance(answer, openai.BaseModel) or not getattr(answer, "id", None):
        raise ValueError("not an object of the API")
    return cast("dict[str, Any]", answer.to_dict(mode="json"))


def _no_api(base_url: str) -> Rejected:
    return Rejected(
        f"What {base_url} answers is not the Batch API. Is OPENAI_BASE_URL (--base-url) right? It ends in /openai/v1.",
        status=404,
    )


def _once() -> dict[str, str]:
    """Let a request that is sent again, because its answer was lost, make nothing again."""
    return {"Idempotency-Key": f"nightshift-cli-{uuid4()}"}


def _page_size(wanted: Wanted) -> int:
    """Ask for one more than is wanted: it tells whether there is more."""
    is_small = wanted.limit is not None and not wanted.statuses
    return min(cast(int, wanted.limit) + 1, _PAGE_SIZE) if is_small else _PAGE_SIZE
