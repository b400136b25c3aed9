"""Scripts for the proxy: bad weather for a whole suite, or one fault at one place."""

from collections import Counter
from collections.abc import Callable
from random import Random

from tests.faults.proxy import Asked, Cut, Delay, Drop, Fault, Lose, Refuse, Script

_SHARE = 0.2
_IN_A_ROW = 2
"""So that whoever tries again often enough gets through."""


def bad_weather(seed: str) -> Script:
    """Spoil every fifth request, in every way there is; the same seed and requests give the same faults."""
    chance = Random(seed)
    spoiled: Counter[Asked] = Counter()

    def script(asked: Asked) -> Fault | None:
        if spoiled[asked] >= _IN_A_ROW or chance.random() >= _SHARE:
            spoiled[asked] = 0
            return None
        spoiled[asked] += 1
        return chance.choice(_faults(asked, chance))

    return script


def _faults(asked: Asked, chance: Random) -> list[Fault]:
    """Name what may happen to a request; a watch has no end after which its answer could be lost."""
    statuses = [Refuse(429, {"Retry-After": "0"}), Refuse(500), Refuse(503), Refuse(503, {"Retry-After": "0"})]
    ways: list[Fault] = [Drop(), Cut(chance.randrange(1, 2_000)), Delay(chance.uniform(0.01, 0.1))]
    return [chance.choice(statuses), *ways] if asked.is_watch else [chance.choice(statuses), *ways, Lose()]


def nth(number: int, fault: Fault, *, of: Callable[[Asked], bool] = lambda _: True) -> Script:
    """Spoil one request, counted from 1 among those that are meant."""
    return nths(range(number, number + 1), fault, of=of)


def nths(numbers: range, fault: Fault, *, of: Callable[[Asked], bool] = lambda _: True) -> Script:
    """Spoil some requests, counted from 1 among those that are meant."""
    seen = Counter[str]()

    def script(asked: Asked) -> Fault | None:
        if not of(asked):
            return None
        seen["meant"] += 1
        return fault if seen["meant"] in numbers else None

    return script
