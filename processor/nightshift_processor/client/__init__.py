"""How a request reaches the model server: the port, its two clients, and the one place that chooses between them."""

from contextlib import AbstractAsyncContextManager

from nightshift_crds.tracing import current
from nightshift_processor.client.over_aiohttp import open_aiohttp
from nightshift_processor.client.port import Answer, Endpoint, Failure, Hear, ModelClient, Result
from nightshift_processor.client.thin import open_thin
from nightshift_processor.settings import HttpClient, RunSettings

__all__ = ["Answer", "Failure", "Hear", "ModelClient", "Result", "join_url", "open_client"]


def join_url(root: str, endpoint: str) -> str:
    """Append an endpoint to the root of a model server, which may be written with or without `/v1`. Pure."""
    return root.rstrip("/").removesuffix("/v1").rstrip("/") + endpoint


def open_client(settings: RunSettings) -> AbstractAsyncContextManager[ModelClient]:
    """Open a client for as long as the context lasts; leaving it aborts what is in flight."""
    endpoint = _endpoint_of(settings)
    if settings.http_client is HttpClient.THIN:
        return open_thin(endpoint)
    return open_aiohttp(endpoint)


def _endpoint_of(settings: RunSettings) -> Endpoint:
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "nightshift"}
    if settings.model_api_key:
        headers["Authorization"] = f"Bearer {settings.model_api_key.get_secret_value()}"
    headers |= current()  # the trace that lines belong to, if any
    return Endpoint(
        url=join_url(str(settings.model_url), settings.endpoint),
        headers=headers,
        timeout_s=settings.request_timeout_s,
        max_answer_bytes=settings.max_answer_bytes,
    )
