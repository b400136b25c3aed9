"""What the API is told at start."""

import re
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from nightshift_crds.lines import DEFAULT_ENDPOINTS
from nightshift_crds.settings import CommonSettings, Endpoints, Words

KIB, MIB = 1 << 10, 1 << 20


def _check_words(shape: re.Pattern[str], words: tuple[str, ...]) -> tuple[str, ...]:
    if not all(shape.fullmatch(word) for word in words):
        raise ValueError(f"expected words like {shape.pattern}")
    return words


class Settings(CommonSettings):
    """Settings of `nightshift-api`."""

    host: str = "0.0.0.0"  # noqa: S104 - a pod listens on its own address
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port to listen on; 0 takes a free one."""
    listen_fd: int | None = None
    """Number of an inherited listening socket to serve instead of host and port."""
    tls_cert_file: Path | None = None
    """PEM file of the certificate to serve with, read again every minute; without one the port speaks plain HTTP."""
    tls_key_file: Path | None = None
    """PEM file of its key, if that is not in the same file."""
    api_keys_file: Path
    """JSON file of API keys by SHA-256, each with its namespace; read again whenever it changes."""
    service_account_tokens: bool = True
    """Whether the token of a ServiceAccount is taken as a key of its own namespace, for what RBAC lets it do; only on
    Kubernetes."""
    max_cached_reviews: Annotated[int, Field(ge=1)] = 10_000
    """Tokens, and rights of tokens, whose review by Kubernetes is remembered for 30 seconds; as many refusals for 5.
    Each costs up to 2 KB of memory."""
    max_reviews_per_s: Annotated[int, Field(ge=0)] = 20
    """Tokens in a second that Kubernetes is asked about which it has not vouched for lately; 0 is no limit. What is
    over it is answered with 503, so that made-up tokens do not wear the API server out."""
    installation: Annotated[str, Field(min_length=1, max_length=253)] = "nightshift"
    """Name of this installation; written into a bucket that has no owner yet."""
    adopt_bucket: bool = False
    """Whether to take over a bucket that names another installation as its owner."""
    ready_leases: Annotated[Words, AfterValidator(partial(_check_words, re.compile("[^/]+/[^/]+")))] = ()
    """Leases (`namespace/name`) that must be held for `/healthz` to answer 200: the parts of a local installation."""
    marks_lease: Annotated[str, Field(pattern="^[^/]+/[^/]+$")] = "nightshift-system/nightshift-api"
    """Lease (`namespace/name`) in which the API's replicas note how far each other's lists must have come."""
    list_patience_s: Annotated[float, Field(gt=0)] = 5
    """Seconds that a list waits for what was written before it; one that is further behind is answered with 503."""
    endpoints: Endpoints = DEFAULT_ENDPOINTS
    """Endpoints that a batch may name, separated by commas; the model's HostedModel must list the batch's too. Checks
    know `/v1/completions`, `/v1/responses`, `/v1/rerank` and `/v1/score` besides; of any other only that it needs a
    model. Each costs about half a KB in the status of an uploaded file."""
    max_file_bytes: Annotated[int, Field(ge=1)] = 100 * MIB
    """Size of an uploaded file in bytes; a larger one is answered with 413 while it arrives."""
    max_upload_part_bytes: Annotated[int, Field(ge=1)] = 64 * MIB
    """Size of one part in bytes of an upload that comes by parts."""
    max_upload_parts: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    """Parts of one such upload, those counted that were sent twice."""
    upload_life_s: Annotated[int, Field(ge=60)] = 3_600
    """Seconds until an upload by parts expires that was not completed; its parts go an hour later."""
    max_lines: Annotated[int, Field(ge=1)] = 50_000
    """Request lines of a file that are checked; a batch over a longer one fails. Costs up to 150 bytes of memory a line
    during the upload."""
    max_line_bytes: Annotated[int, Field(ge=1)] = 16 * MIB
    """Length of one line in bytes. An upload holds one line in memory."""
    max_body_bytes: Annotated[int, Field(ge=1)] = MIB
    """Size of a JSON body in bytes."""
    max_creates_per_hour: Annotated[int, Field(ge=0)] = 2_000
    """Batches that a namespace may create in an hour at each replica, all at once if need be; 0 is no limit. What is
    over it is answered with 429, here and below."""
    max_uploads_per_hour: Annotated[int, Field(ge=0)] = 10_000
    """Uploads of a namespace in an hour at each replica; 0 is no limit. An upload by parts counts once for itself, once
    for each part and once when it is completed."""
    max_reads_per_s: Annotated[int, Field(ge=0)] = 0
    """Reads (GET) of a namespace in a second at each replica; 0 is no limit."""
    max_concurrent_requests: Annotated[int, Field(ge=0)] = 100
    """Requests of a namespace that each replica serves at once, downloads among them; 0 is no limit."""
    max_concurrent_uploads: Annotated[int, Field(ge=0)] = 16
    """Uploads of a namespace that each replica takes at once; 0 is no limit. Each costs up to 32 MB of memory if its
    lines are as long as they may be."""
    max_connections: Annotated[int, Field(ge=1)] = 1_000
    """Connections that each replica has open, of all clients. Over it the one goes that was idle for longest; if none
    is, the new one is answered with 503."""
    max_header_bytes: Annotated[int, Field(ge=1_024)] = 64 * KIB
    """Size of a request line and its headers in bytes; larger ones are answered with 431 while they arrive."""
    max_headers: Annotated[int, Field(ge=1)] = 100
    """Headers of a request."""
    header_timeout_s: Annotated[float, Field(gt=0)] = 30
    """Seconds within which the headers of a request must be there, from the connection or its first byte on."""
    keep_alive_s: Annotated[int, Field(ge=1)] = 75
    """Seconds that a connection is kept for a next request. More than the load balancer in front keeps its own, or it
    sends requests into connections that close."""
    body_stall_s: Annotated[float, Field(gt=0)] = 30
    """Seconds without a byte of a body, after which the request is answered with 408; SDKs send it again."""
    min_bytes_per_s: Annotated[int, Field(ge=1)] = 4_096
    """Pace in the long run at which a body must come and an answer be read; what is slower ends as if it stalled."""
    send_stall_s: Annotated[float, Field(gt=0)] = 30
    """Seconds without an answer being read at that pace, after which its connection is closed."""
    max_searched_batches: Annotated[int, Field(ge=1)] = 20_000
    """Batches that one `GET /batches?search=` looks at, about 5 ms of CPU; the answer's `last_id` says where the next
    goes on."""
    console: bool = True
    """Whether `/console` is served, and its sign-in taken by the API."""
    console_session_s: Annotated[int, Field(ge=60)] = 43_200
    """Seconds until whoever has signed in to the console must do so again."""
    console_secure_cookie: bool = False
    """Whether the console's cookie goes over TLS only; always so where the API itself serves TLS. Turn it on behind a
    proxy that does."""
    console_poll_s: Annotated[float, Field(gt=0)] = 1
    """Seconds between two looks of an open console at the batch that it shows in detail, while that runs, and at
    whether its key still holds. A look costs what a GET of the batch does."""
    max_console_streams: Annotated[int, Field(ge=1)] = 10
    """Streams of events that each replica keeps open for one key, one for each console that somebody looks at; what is
    over it is answered with 429."""
    completion_window_s: Annotated[int, Field(ge=1)] = 86_400
    """Seconds until a batch expires, whatever it says about 24h; for tests and small installations."""
    default_expiry_s: Annotated[int, Field(ge=3_600)] = 2_592_000
    """Life in seconds of a file that names none."""
    shutdown_grace_s: Annotated[int, Field(ge=0)] = 10
    """Seconds that requests in flight get to finish at SIGTERM."""
