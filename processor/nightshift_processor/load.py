"""What a model server says of its load at `/metrics`, for the flow.

vLLM, SGLang and llama.cpp have what is asked for, under names of their own. A server that has no such page, or one that
says nothing of this, is asked once.
"""

import asyncio
import re
from collections.abc import Iterator
from math import isfinite

import aiohttp
import structlog

from nightshift_processor.client import join_url
from nightshift_processor.flow import Flow, Load
from nightshift_processor.settings import RunSettings

_log = structlog.get_logger()
_RUNNING, _WAITING, _CACHE = "running", "waiting", "cache"
_METRICS = {
    "vllm:num_requests_running": _RUNNING,
    "vllm:num_requests_waiting": _WAITING,
    "vllm:kv_cache_usage_perc": _CACHE,
    "vllm:gpu_cache_usage_perc": _CACHE,  # its former name
    "sglang:num_running_reqs": _RUNNING,
    "sglang:num_queue_reqs": _WAITING,
    "sglang:token_usage": _CACHE,
    "llamacpp:requests_processing": _RUNNING,
    "llamacpp:requests_deferred": _WAITING,
    "llamacpp:kv_cache_usage_ratio": _CACHE,
}
_SAMPLE = re.compile(rf"^({'|'.join(_METRICS)})(?:\{{.*\}})? ([^ \n\r]+)", re.MULTILINE)
_TIMEOUT_S = 5.0
_MAX_BYTES = 4 << 20


def parse_load(text: str) -> Load | None:
    """Read a page of metrics in Prometheus' text form; None if it says too little. Pure.

    A server may have several engines, each with samples of its own: requests add up, and the fullest cache counts.
    """
    found: dict[str, list[float]] = {_RUNNING: [], _WAITING: [], _CACHE: []}
    for what, value in _samples(text):
        found[what].append(value)
    if not found[_RUNNING] or not found[_WAITING]:
        return None
    return Load(int(sum(found[_RUNNING])), int(sum(found[_WAITING])), max(found[_CACHE], default=0.0))


def _samples(text: str) -> Iterator[tuple[str, float]]:
    for name, number in _SAMPLE.findall(text):
        try:
            value = float(number)
        except ValueError:
            continue
        if isfinite(value) and value >= 0:
            yield _METRICS[name], value


async def watch_load(settings: RunSettings, flow: Flow) -> None:
    """Tell the flow of the load again and again, until cancelled or until it is clear that the server tells nothing."""
    key = settings.model_api_key
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    url = join_url(str(settings.model_url), "/metrics")
    loop = asyncio.get_running_loop()
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, trust_env=True) as session:
        while True:
            try:
                load = await _ask(session, url)
            except (aiohttp.ClientError, OSError):
                flow.go_blind()
            else:
                if load is None:
                    _log.info("load.unknown")
                    flow.go_blind()
                    return
                flow.see(load, loop.time())
            await asyncio.sleep(settings.load_interval_s)


async def _ask(session: aiohttp.ClientSession, url: str) -> Load | None:
    """Fetch the page; None if there is none that can be read. Raises what `aiohttp` does if another try may help."""
    async with session.get(url, allow_redirects=False) as response:
        if response.status >= 500:
            response.raise_for_status()
        page = bytearray()
        async for chunk in response.content.iter_any():
            page += chunk
            if len(page) > _MAX_BYTES or response.status != 200:
                return None
        return parse_load(page.decode(errors="replace"))
