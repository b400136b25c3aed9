"""When batches of a model may run: windows of the week, by the clock of a place.

Pure but for the time zones, which come from the system or from `tzdata` and are read once. An hour that a change of the
clock skips or repeats counts as the clock before the change would have it.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from nightshift_crds.models import WEEKDAYS, Window

_DAY = timedelta(days=1)
_AHEAD_DAYS = 8
"""Days after which everything that a week can hold has come."""


def closes_at(windows: Iterable[Window], now: datetime) -> datetime | None:
    """Tell when the window closes that is open, or the last of those that follow it without a gap; None if none is."""
    end = now
    for opens, closes in sorted(_all_times(windows, now)):
        if opens <= end < closes:
            end = closes
    return end if end > now else None


def opens_at(windows: Iterable[Window], now: datetime) -> datetime | None:
    """Tell when the next window opens; None if none ever does."""
    return min((opens for opens, _ in _all_times(windows, now) if opens > now), default=None)


def explain_closed(windows: Iterable[Window], now: datetime) -> str:
    """Say what a batch waits for outside of all windows."""
    opens = opens_at(windows, now)
    if opens is None:
        return "No window of the model ever opens: its time zone is unknown. Correct spec.windows of the HostedModel."
    return f"Batches of this model run in windows; the next one opens at {opens:%Y-%m-%d %H:%M} UTC."


def _all_times(windows: Iterable[Window], now: datetime) -> Iterator[tuple[datetime, datetime]]:
    for window in windows:
        zone = _find_zone(window.time_zone)
        if zone is not None:
            yield from _times(window, zone, now.astimezone(zone).date())


def _times(window: Window, zone: ZoneInfo, today: date) -> Iterator[tuple[datetime, datetime]]:
    """Give opening and closing of a window, from the one that may have opened yesterday to all of the next week."""
    start, end = time.fromisoformat(window.start), time.fromisoformat(window.end)
    for day in (today + n * _DAY for n in range(-1, _AHEAD_DAYS)):
        if not window.days or WEEKDAYS[day.weekday()] in window.days:
            last_day = day if start < end else day + _DAY
            opens, closes = (
                datetime.combine(*at, tzinfo=zone).astimezone(UTC) for at in ((day, start), (last_day, end))
            )
            if opens < closes:  # else all of it falls into the hour that a change of the clock skips
                yield opens, closes


def _find_zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not known; not a name; a folder of the database
        return None
