"""`nightshift-processor inspect | run | seal`: one step of one batch; told by the environment, ends by exit code."""

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import structlog
import uvloop

from nightshift_crds.bucket import open_bucket
from nightshift_crds.errors import Rejected, Unavailable
from nightshift_crds.exits import Exit
from nightshift_crds.logs import configure_logs
from nightshift_crds.names import Step
from nightshift_crds.parent import end_with_parent
from nightshift_processor.inspect import inspect
from nightshift_processor.run import run
from nightshift_processor.seal import seal
from nightshift_processor.settings import InspectSettings, RunSettings, SealSettings, StepSettings
from nightshift_processor.stopping import unless
from nightshift_processor.tracing import traced

_log = structlog.get_logger()
_FAILED = 1
"""Any failure that another pod may not have."""

_SETTINGS: dict[Step, type[StepSettings]] = {
    Step.INSPECT: InspectSettings,
    Step.RUN: RunSettings,
    Step.SEAL: SealSettings,
}


def main() -> None:
    """Run the step that the first argument names."""
    parser = argparse.ArgumentParser(prog="nightshift-processor", description="Work on one step of one batch.")
    parser.add_argument("step", type=Step, choices=list(Step))
    step: Step = parser.parse_args().step
    configure_logs("processor")
    end_with_parent(os.environ)
    try:
        settings = _SETTINGS[step].load(os.environ)
        gc.freeze()  # what has been imported stays: no collection need look at it
        structlog.contextvars.bind_contextvars(batch=settings.batch_id or settings.batch_uid, step=step.value)
        sys.exit(traced(step, settings, os.environ, lambda: uvloop.run(_main(settings))))
    except Rejected as error:
        _log.error("settings.wrong", problem=error.message)
        sys.exit(Exit.BAD_SETTINGS)


async def _main(settings: StepSettings) -> int:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    try:
        async with open_bucket(settings.bucket) as bucket:
            match settings:
                case RunSettings():
                    return await run(settings, bucket, stop)
                case SealSettings():
                    return await _until_stopped(seal(settings, bucket), stop)
                case InspectSettings():
                    return await _until_stopped(inspect(settings, bucket), stop)
    except Unavailable as error:
        _log.error("bucket.unavailable", problem=str(error))
    return _FAILED


async def _until_stopped(work: Coroutine[Any, Any, Exit], stop: asyncio.Event) -> Exit:
    """Work until done or told to stop: these steps have nothing to save, another pod begins them again."""
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        end = await unless(work, stopping)
        return Exit.INTERRUPTED if end is None else end
    finally:
        stopping.cancel()
