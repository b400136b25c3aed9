"""What has changed since somebody last asked, as ids: bounded, however fast it changes and however slowly it is read.

`following` writes it, the console's stream of events reads it.
"""

import asyncio
from dataclasses import dataclass, field

_MAX_IDS = 500
"""More than that were quicker read as a page than told one by one."""


@dataclass(eq=False)
class News:
    """The news of one namespace for one reader."""

    namespace: str
    _ids: dict[str, None] = field(default_factory=dict)
    _is_lost: bool = False
    _has_come: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, namespace: str, id_: str) -> None:
        """Note that an object has changed, if it is of our namespace; once, however often it does."""
        if namespace != self.namespace:
            return
        self._ids[id_] = None
        if len(self._ids) > _MAX_IDS:
            self.forget()
        self._has_come.set()

    def forget(self) -> None:
        """Note that nobody can tell what has changed: the reader must read all that it shows again."""
        self._ids.clear()
        self._is_lost = True
        self._has_come.set()

    async def take(self, within_s: float) -> list[str] | None:
        """Wait for news, not for longer than that, and give the ids; None if they were lost."""
        try:
            async with asyncio.timeout(within_s):
                await self._has_come.wait()
        except TimeoutError:
            return []
        ids, is_lost = list(self._ids), self._is_lost
        self._ids.clear()
        self._is_lost = False
        self._has_come.clear()
        return None if is_lost else ids
