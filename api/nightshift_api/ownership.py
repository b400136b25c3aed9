"""Put this installation's name on the bucket, so that no other one's sweep takes our files for orphans (design 6)."""

from contextlib import suppress

import structlog

from nightshift_api.settings import Settings
from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket, get
from nightshift_crds.errors import AlreadyExists

_log = structlog.get_logger()


async def claim_bucket(bucket: Bucket, settings: Settings) -> None:
    """Name the owner of a bucket that has none, or take it over if the settings say so."""
    name = settings.installation.encode()
    with suppress(AlreadyExists):
        await bucket.put(names.OWNER_KEY, name, create_only=not settings.adopt_bucket)
    owner = await get(bucket, names.OWNER_KEY)
    if owner != name:
        _log.error("bucket.has_another_owner", owner=owner.decode(errors="replace"), installation=settings.installation)
