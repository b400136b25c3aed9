"""Pages as clients ask for them and see them: cursor and envelope (contract 1.6). Pure; `index` cuts them."""

import json
from collections.abc import Callable

from nightshift_api.index import Position, Row
from nightshift_crds.errors import Rejected
from nightshift_crds.names import IdKind, parse_id, uuid7_ms


def parse_cursor(kind: IdKind, after: str | None, known: Callable[[str], Row | None]) -> Position | None:
    """Find the position that a cursor names, also of an object that has been deleted since.

    `known` gives the row of an id that is still there. Raises `Rejected` for an id that tells no time.
    """
    if after is None:
        return None
    row = known(after)
    if row is not None:
        return row.position
    value = parse_id(kind, after)
    milliseconds = uuid7_ms(value) if value else None
    if milliseconds is None:
        raise Rejected("Expected 'after' to be the id of an object.", code="invalid_value", param="after")
    return milliseconds // 1000, after


def render_page(rows: list[Row], *, has_more: bool, looked_at: str | None = None) -> bytes:
    """Write a page: a `ListObject`, its objects as the rows hold them. A search ends where it has looked last."""
    first_id, last_id = (rows[0].id, rows[-1].id) if rows else (None, None)
    last_id = looked_at or last_id
    return b'{"object":"list","data":[%b],"first_id":%b,"last_id":%b,"has_more":%b}' % (
        b",".join(row.shown for row in rows),
        json.dumps(first_id).encode(),
        json.dumps(last_id).encode(),
        json.dumps(has_more).encode(),
    )
