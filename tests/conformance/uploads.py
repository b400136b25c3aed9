"""Uploads by parts (contract 7)."""

import hashlib
from typing import Any

from tests.conformance.fields import Field, is_time, state_fields
from tests.conformance.raw import Answer, Part
from tests.conformance.statements import OPEN, Place, differs
from tests.conformance.target import NOBODY, Object, Target

the_upload = Place("The upload object")
create = Place("POST /uploads")
parts = Place("POST /uploads/{id}/parts")
complete = Place("POST /uploads/{id}/complete")
cancel = Place("POST /uploads/{id}/cancel")
WHOLE, GIVEN_UP = "upload_in_parts", "cancel_an_upload_in_parts"


def announce(target: Target, size: int = 6, **fields: Any) -> Answer:
    return target.raw.post(
        "/uploads", {"filename": "a.jsonl", "purpose": "batch", "bytes": size, "mime_type": "text/jsonl"} | fields
    )


def add(target: Target, upload_id: str, content: bytes) -> Answer:
    return target.raw.send_form(f"/uploads/{upload_id}/parts", Part("data", content, "upload"))


def finish(target: Target, upload_id: str, *part_ids: str, **fields: Any) -> Answer:
    return target.raw.post(f"/uploads/{upload_id}/complete", {"part_ids": list(part_ids)} | fields)


def a_whole_one(target: Target) -> Object:
    """An upload of two parts, put together the other way round than they came."""
    upload = announce(target).ok["id"]
    last, first = (add(target, upload, content).ok["id"] for content in (b"def", b"abc"))
    answered: Object = finish(target, upload, first, last).ok
    return answered


def every_upload(target: Target) -> list[Object]:
    pending = announce(target).ok
    return [pending, target.raw.post(f"/uploads/{pending['id']}/cancel").ok, a_whole_one(target)]


state_fields(
    the_upload,
    "7",
    every_upload,
    Field("id", "`upload_` and a UUID", lambda upload: upload["id"].startswith("upload_"), sdk=(WHOLE,)),
    Field("object", "`upload`", lambda upload: upload["object"] == "upload", sdk=(WHOLE,)),
    Field("bytes", "as announced", lambda upload: upload["bytes"] == 6, sdk=(WHOLE,)),
    Field("created_at", "a time", lambda upload: is_time(upload["created_at"]), sdk=(WHOLE,)),
    Field(
        "expires_at",
        "`created_at` and 3600 s",
        lambda upload: upload["expires_at"] == upload["created_at"] + 3_600,
        sdk=(WHOLE,),
    ),
    Field("filename", "as announced", lambda upload: upload["filename"] == "a.jsonl", sdk=(WHOLE,)),
    Field("purpose", "`batch`", lambda upload: upload["purpose"] == "batch", sdk=(WHOLE,)),
    Field(
        "status",
        "`pending`, `completed`, `cancelled` or `expired`",
        lambda upload: upload["status"] in {"pending", "completed", "cancelled"},
        sdk=(WHOLE, GIVEN_UP),
    ),
    Field(
        "file",
        "the file, once `completed`",
        lambda upload: (upload["file"] is not None) is (upload["status"] == "completed"),
        sdk=(WHOLE,),
    ),
)


@create.says("7", "a required field that is missing is refused by its name", OPEN)
def _(target: Target) -> None:
    full = {"filename": "a.jsonl", "purpose": "batch", "bytes": 1, "mime_type": "x"}
    for name in full:
        left = {key: value for key, value in full.items() if key != name}
        target.raw.post("/uploads", left).refuses(400, "missing_required_parameter", name)


@create.says("7", "a purpose other than `batch` is refused", differs("OpenAI has files for other purposes too"))
def _(target: Target) -> None:
    announce(target, purpose="fine-tune").refuses(400, "invalid_value", "purpose")


@create.says("7", "more bytes than a file may have are a 413", differs("OpenAI's limit is 8 GB"))
def _(target: Target) -> None:
    announce(target, 10**12).refuses(413, "file_too_large", "bytes")


@create.says("7", "`mime_type` is free text")
def _(target: Target) -> None:
    for mime_type in ("application/jsonl", "text/jsonl", "", "x"):
        assert announce(target, mime_type=mime_type).ok


@create.says("7", "`expires_after` is the life of the file")
def _(target: Target) -> None:
    upload = announce(target, 3, expires_after={"anchor": "created_at", "seconds": 3_600}).ok["id"]
    file = finish(target, upload, add(target, upload, b"abc").ok["id"]).ok["file"]
    assert file["expires_at"] == file["created_at"] + 3_600


@parts.says("7", "a part is `{id, object: upload.part, created_at, upload_id}`", sdk=(GIVEN_UP,))
def _(target: Target) -> None:
    upload = announce(target).ok["id"]
    part = add(target, upload, b"abc").ok
    assert part.keys() == {"id", "object", "created_at", "upload_id"}
    assert (part["object"], part["upload_id"], is_time(part["created_at"])) == ("upload.part", upload, True)
    assert part["id"].startswith("part_")


@parts.says("7", "without its file part it is refused, and so is an upload that has ended", OPEN)
def _(target: Target) -> None:
    upload = announce(target).ok["id"]
    wrong = target.raw.send_form(f"/uploads/{upload}/parts", Part("data", b"plain"))
    wrong.refuses(400, "missing_required_parameter", "data")
    assert target.raw.post(f"/uploads/{upload}/cancel").ok
    add(target, upload, b"abc").refuses(400, "upload_not_pending", "upload_id")


@complete.says("7", "the order of `part_ids` is that of the file, which is there at once", sdk=(WHOLE,))
def _(target: Target) -> None:
    file = a_whole_one(target)["file"]
    assert (file["status"], file["bytes"]) == ("processed", 6)
    assert target.raw.get(f"/files/{file['id']}").ok == file
    assert target.raw.get(f"/files/{file['id']}/content").body == b"abcdef"


@complete.says("7", "unknown parts, another sum of bytes or another `md5` are refused", OPEN, sdk=(WHOLE,))
def _(target: Target) -> None:
    upload = announce(target, 3).ok["id"]
    part = add(target, upload, b"abc").ok["id"]
    finish(target, upload, f"part_{NOBODY}").refuses(400, "invalid_value", "part_ids")
    finish(target, upload).refuses(400, "invalid_value", "part_ids")
    finish(target, upload, part, part).refuses(400, "invalid_value", "part_ids")
    finish(target, upload, part, md5="0" * 32).refuses(400, "invalid_value", "md5")
    md5 = hashlib.md5(b"abc", usedforsecurity=False).hexdigest()
    assert finish(target, upload, part, md5=md5).ok["status"] == "completed"


@complete.says("7", "after a cancel it is refused", sdk=(GIVEN_UP,))
def _(target: Target) -> None:
    upload = announce(target, 3).ok["id"]
    part = add(target, upload, b"abc").ok["id"]
    assert target.raw.post(f"/uploads/{upload}/cancel").ok
    finish(target, upload, part).refuses(400, "upload_not_pending", "upload_id")


@cancel.says("7", "it ends a pending upload, and is refused for one that is `completed`", sdk=(WHOLE, GIVEN_UP))
def _(target: Target) -> None:
    upload = announce(target).ok["id"]
    assert target.raw.post(f"/uploads/{upload}/cancel").ok["status"] == "cancelled"
    whole = a_whole_one(target)["id"]
    target.raw.post(f"/uploads/{whole}/cancel").refuses(400, "upload_not_pending", "upload_id")


@cancel.says("7", "an unknown id is a 404, here and in the calls above", OPEN, sdk=(GIVEN_UP,))
def _(target: Target) -> None:
    for unknown in (f"upload_{NOBODY}", "upload_x", f"file_{NOBODY}"):
        target.raw.post(f"/uploads/{unknown}/cancel").refuses(404, None, "upload_id")
        finish(target, unknown, "part_x").refuses(404, None, "upload_id")
        add(target, unknown, b"abc").refuses(404, None, "upload_id")
