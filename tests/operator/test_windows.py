"""When batches of a model may run: by clocks of places, through weeks and changes of the clock."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds.models import WEEKDAYS, Window
from nightshift_operator.windows import closes_at, explain_closed, opens_at

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia"]


def a_window(start: str, end: str, *days: str, zone: str = "UTC") -> Window:
    return Window.model_validate({"days": days, "start": start, "end": end, "timeZone": zone})


def at(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


NIGHTS = [a_window("22:00", "06:00")]
WEEKENDS = [a_window("20:00", "08:00", "Fri"), a_window("08:00", "00:00", "Sat"), a_window("00:00", "00:00", "Sun")]


# --- open and closed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "closes"),
    [
        ("2026-11-23T21:59:59", None),
        ("2026-11-23T22:00:00", "2026-11-24T06:00:00"),
        ("2026-11-24T00:00:00", "2026-11-24T06:00:00"),
        ("2026-11-24T05:59:59", "2026-11-24T06:00:00"),
        ("2026-11-24T06:00:00", None),
    ],
)
def test_a_window_over_midnight_is_one(now: str, closes: str | None) -> None:
    assert closes_at(NIGHTS, at(now)) == (at(closes) if closes else None)


@pytest.mark.parametrize(
    ("now", "closes", "opens"),
    [
        ("2026-11-27T19:00:00", None, "2026-11-27T20:00:00"),  # a Friday
        ("2026-11-27T20:00:00", "2026-11-30T00:00:00", "2026-11-28T08:00:00"),
        ("2026-11-29T23:00:00", "2026-11-30T00:00:00", "2026-12-04T20:00:00"),
        ("2026-11-30T00:00:00", None, "2026-12-04T20:00:00"),
    ],
)
def test_windows_that_follow_each_other_close_with_the_last(now: str, closes: str | None, opens: str) -> None:
    assert closes_at(WEEKENDS, at(now)) == (at(closes) if closes else None)
    assert opens_at(WEEKENDS, at(now)) == at(opens)


def test_a_window_that_has_just_opened_opens_again_a_week_later() -> None:
    sundays = [a_window("01:00", "02:00", "Sun")]
    assert opens_at(sundays, at("2026-11-29T01:00:00")) == at("2026-12-06T01:00:00")


def test_a_window_that_ends_when_it_begins_is_a_whole_day() -> None:
    assert closes_at([a_window("08:00", "08:00", "Mon")], at("2026-11-24T07:59:00")) == at("2026-11-24T08:00:00")


def test_what_is_always_open_does_not_close_before_any_batch_ends() -> None:
    now = at("2026-11-24T07:59:00")
    closes = closes_at([a_window("00:00", "00:00")], now)
    assert closes is not None
    assert closes > now + timedelta(days=2)


def test_without_windows_none_is_open_and_none_opens() -> None:
    assert (closes_at([], at("2026-11-24T00:00:00")), opens_at([], at("2026-11-24T00:00:00"))) == (None, None)


# --- clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("day", "hours"), [("2026-03-28", 7), ("2026-10-24", 9), ("2026-11-24", 8)])
def test_a_night_is_as_long_as_the_clock_of_its_place_has_it(day: str, hours: int) -> None:
    windows = [a_window("22:00", "06:00", zone="Europe/Berlin")]
    opens = at(f"{day}T22:00:00", "Europe/Berlin")
    closes = closes_at(windows, opens)
    assert closes is not None
    assert closes - opens == timedelta(hours=hours)


def test_a_window_in_the_hour_that_is_skipped_opens_an_hour_later_by_the_new_clock() -> None:
    windows = [a_window("02:15", "02:45", zone="Europe/Berlin")]
    assert opens_at(windows, at("2026-03-29T00:00:00")) == at("2026-03-29T03:15:00", "Europe/Berlin")


def test_a_window_that_the_change_of_the_clock_turns_around_is_left_out() -> None:
    windows = [a_window("02:30", "03:15", zone="Europe/Berlin")]
    assert opens_at(windows, at("2026-03-29T00:00:00")) == at("2026-03-30T02:30:00", "Europe/Berlin")
    assert closes_at(windows, at("2026-03-29T01:20:00")) is None


def test_days_are_those_of_the_place() -> None:
    windows = [a_window("00:00", "06:00", "Sat", zone="Asia/Tokyo")]
    assert opens_at(windows, at("2026-11-27T12:00:00")) == at("2026-11-27T15:00:00")


@pytest.mark.parametrize("zone", ["Mars/Base", "Europe", "/etc/passwd", "../UTC", "\0"])
def test_a_window_of_a_place_that_nobody_knows_never_opens(zone: str) -> None:
    windows = [a_window("00:00", "00:00", zone=zone)]
    assert (closes_at(windows, at("2026-11-24T00:00:00")), opens_at(windows, at("2026-11-24T00:00:00"))) == (None, None)
    assert closes_at([*windows, *NIGHTS], at("2026-11-24T00:00:00")) == at("2026-11-24T06:00:00")


# --- in words ---------------------------------------------------------------------------------------------------------


def test_it_is_said_when_the_next_window_opens_or_why_none_does() -> None:
    now = at("2026-11-24T12:00:00")
    assert "opens at 2026-11-24 22:00 UTC" in explain_closed(NIGHTS, now)
    assert "time zone is unknown" in explain_closed([a_window("00:00", "00:00", zone="Mars/Base")], now)


# --- whatever the windows ---------------------------------------------------------------------------------------------

CLOCKS = st.times().map(lambda moment: f"{moment:%H:%M}")
WINDOWS = st.lists(
    st.builds(
        a_window, CLOCKS, CLOCKS, st.sampled_from(WEEKDAYS), st.sampled_from(WEEKDAYS), zone=st.sampled_from(ZONES)
    ),
    min_size=1,
    max_size=4,
)
MOMENTS = st.datetimes(datetime(2011, 1, 1), datetime(2040, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001 - the zone follows


@given(WINDOWS, MOMENTS)
def test_from_its_opening_to_its_closing_a_window_is_open_and_before_and_after_it_is_not(
    windows: list[Window], now: datetime
) -> None:
    opens, closes = opens_at(windows, now), closes_at(windows, now)
    assert opens is not None
    assert now < opens <= now + timedelta(days=8)
    assert closes_at(windows, opens) is not None
    second = timedelta(seconds=1)
    if closes is None:
        assert closes_at(windows, opens - second) is None or opens - second < now
    else:
        assert closes_at(windows, closes - second) == closes
        assert closes_at(windows, closes) is None
