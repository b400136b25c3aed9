"""Files: the object, and the calls on it (contract 3, 11)."""

import hashlib

from tests.conformance.fields import Field, is_time, state_fields
from tests.conformance.raw import Part, encode_form
from tests.conformance.statements import OPEN, Place, differs, half_known, superset
from tests.conformance.target import NOBODY, Object, Target

the_file = Place("The file object")
create = Place("POST /files")
retrieve = Place("GET /files/{id}")
content = Place("GET /files/{id}/content")
delete = Place("DELETE /files/{id}")
UPLOADED = ("upload_in_every_form",)
DAY_S = 86_400


def every_file(target: Target) -> list[Object]:
    ended = target.completed.shown[-1]
    ids = [ended[f"{kind}_file_id"] for kind in ("input", "output", "error")]
    shown = [target.raw.get(f"/files/{file_id}").ok for file_id in ids]
    return [target.a_file(), target.stopped.output, target.stopped.error, *shown]


state_fields(
    the_file,
    "3.1",
    every_file,
    Field("id", "a string", lambda file: file["id"].startswith("file_"), sdk=UPLOADED),
    Field("object", "`file`", lambda file: file["object"] == "file", sdk=UPLOADED),
    Field("bytes", "an integer, growing while a result file is written", lambda file: file["bytes"] > 0, sdk=UPLOADED),
    Field("created_at", "a time", lambda file: is_time(file["created_at"]), sdk=UPLOADED),
    Field(
        "expires_at",
        "a time; null until a result file is sealed",
        lambda file: is_time(file["expires_at"]) is (file["status"] == "processed"),
        differs("OpenAI's result files are there only when they are whole"),
        sdk=(*UPLOADED, "download_while_it_is_in_progress"),
    ),
    Field("filename", "a string", lambda file: file["filename"].endswith(".jsonl"), sdk=UPLOADED),
    Field(
        "purpose",
        "`batch`, and `batch_output` for result files",
        lambda file: file["purpose"] == ("batch_output" if file["filename"].startswith("batch_") else "batch"),
        sdk=("run_a_batch_to_its_end",),
    ),
    Field(
        "status",
        "`processed` as soon as a file is whole, `uploaded` while a result file is written",
        lambda file: file["status"] in {"processed", "uploaded"},
        sdk=(*UPLOADED, "download_while_it_is_in_progress"),
    ),
    Field("status_details", "null", lambda file: file["status_details"] is None),
)


@the_file.says(
    "3.1", "result files are `<batch id>_output.jsonl` and `<batch id>_error.jsonl`", sdk=("run_a_batch_to_its_end",)
)
def _(target: Target) -> None:
    ended = target.completed.shown[-1]
    for kind in ("output", "error"):
        assert target.raw.get(f"/files/{ended[f'{kind}_file_id']}").ok["filename"] == f"{ended['id']}_{kind}.jsonl"


# --- upload -----------------------------------------------------------------------------------------------------------


@create.says("3.2", "`purpose` may stand before or behind the file", sdk=("upload_in_every_form", "upload_a_stream"))
def _(target: Target) -> None:
    parts = [Part("purpose", b"batch"), Part("file", target.lines("x"), "a.jsonl")]
    for form in (parts, parts[::-1]):
        assert target.raw.send_form("/files", *form).ok["purpose"] == "batch"


@create.says("3.2", "a form may come in chunks, without a `Content-Length`", sdk=("upload_a_stream",))
def _(target: Target) -> None:
    lines = target.lines(*"abcdef")
    body, content_type = encode_form([Part("file", lines, "a.jsonl"), Part("purpose", b"batch")])
    pieces = [body[n : n + 50] for n in range(0, len(body), 50)]
    file = target.raw.ask("POST", "/files", pieces, Content_Type=content_type).ok
    assert target.raw.get(f"/files/{file['id']}/content").body == lines


@create.says("3.2", "a name without an extension is taken (`upload`, `unknown_file`)", sdk=UPLOADED)
def _(target: Target) -> None:
    for name in ("upload", "unknown_file", "a.JSONL"):
        assert target.raw.upload(target.lines("x"), name).ok["filename"] == name


@create.says("3.2", "an extension other than `.jsonl` is refused (E20)", sdk=("meet_clear_errors",))
def _(target: Target) -> None:
    for name in ("a.txt", "a.jsonl.gz", "b.json"):
        target.raw.upload(target.lines("x"), name).refuses(400, "invalid_file_format", "file")


@create.says("3.2", "directories are taken off a name", OPEN)
def _(target: Target) -> None:
    for name in ("/etc/in.jsonl", "../in.jsonl", "C:\\x\\in.jsonl"):
        form = [Part("purpose", b"batch"), Part("file", target.lines("x"), name.replace("\\", "\\\\"))]
        assert target.raw.send_form("/files", *form).ok["filename"] == "in.jsonl"


@create.says("3.2", "the type of the file's part is ignored", OPEN)
def _(target: Target) -> None:
    for content_type in (None, "text/plain", "image/png"):
        file = Part("file", target.lines("x"), "a.jsonl", content_type)
        assert target.raw.send_form("/files", Part("purpose", b"batch"), file).ok


@create.says("3.2", "`expires_after[seconds]` is a life of 3600 to 2592000 s", sdk=("upload_with_an_expiry",))
def _(target: Target) -> None:
    for seconds in (3_600, 2_592_000):
        life: Object = {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(seconds)}
        file = target.a_file(**life)
        assert file["expires_at"] == file["created_at"] + seconds


@create.says("3.2", "so is `expires_after.seconds`", superset("Azure's clients send it"))
def _(target: Target) -> None:
    life: Object = {"expires_after.anchor": "created_at", "expires_after.seconds": "7200"}
    file = target.a_file(**life)
    assert file["expires_at"] == file["created_at"] + 7_200


@create.says("11", "a file for a batch lives for 30 days unless it says otherwise", sdk=UPLOADED)
def _(target: Target) -> None:
    file = target.a_file()
    assert file["expires_at"] == file["created_at"] + 30 * DAY_S


@create.says("14", "an anchor other than `created_at` is refused (E15)", OPEN)
def _(target: Target) -> None:
    fields = {"expires_after[anchor]": "last_active_at", "expires_after[seconds]": "3600"}
    target.raw.upload(b"x", **fields).refuses(400, "invalid_value", "expires_after.anchor")


@create.says(
    "14", "seconds out of their bounds, missing or no integer are refused (E16)", OPEN, sdk=("meet_clear_errors",)
)
def _(target: Target) -> None:
    wrong = {
        "3599": "integer_below_min_value",
        "2592001": "integer_above_max_value",
        "9" * 40: "integer_above_max_value",
        "1h": "invalid_type",
        "3600.0": "invalid_type",
    }
    for seconds, code in wrong.items():
        fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": seconds}
        target.raw.upload(b"x", **fields).refuses(400, code, "expires_after.seconds")
    alone = target.raw.upload(b"x", **{"expires_after[anchor]": "created_at"})
    alone.refuses(400, "missing_required_parameter", "expires_after.seconds")
    alone = target.raw.upload(b"x", **{"expires_after[seconds]": "3600"})
    alone.refuses(400, "missing_required_parameter", "expires_after.anchor")


@create.says("14", "a form without its file or purpose, or with the file as a plain field, is refused (E17)", OPEN)
def _(target: Target) -> None:
    send = target.raw.send_form
    send("/files", Part("purpose", b"batch")).refuses(400, "missing_required_parameter", "file")
    send("/files", Part("purpose", b"batch"), Part("file", b"x")).refuses(400, "missing_required_parameter", "file")
    send("/files", Part("file", b"x", "a")).refuses(400, "missing_required_parameter", "purpose")


@create.says(
    "14",
    "a `purpose` other than `batch` is refused (E18)",
    differs("OpenAI has files for other purposes too"),
    sdk=("meet_clear_errors",),
)
def _(target: Target) -> None:
    for purpose in ("batch_output", "fine-tune", "assistants", "user_data", "", "Batch"):
        target.raw.upload(b"x", purpose=purpose).refuses(400, "invalid_value", "purpose")


@create.says(
    "14",
    "a file of zero bytes is refused (E19)",
    half_known("OpenAI answers 400 too, with what code is not known"),
    sdk=("meet_clear_errors",),
)
def _(target: Target) -> None:
    target.raw.upload(b"").refuses(400, "empty_file", "file")


@create.says(
    "14",
    "a file over the limit is refused while it arrives, with a 413 (E21)",
    differs("OpenAI answers 400; 413 is what every ingress in front of it says"),
)
def _(target: Target) -> None:
    declared = target.raw.ask(
        "POST", "/files", Content_Length=str(10**9), Content_Type="multipart/form-data; boundary=x"
    )
    declared.refuses(413, "file_too_large", "file")


@create.says("14", "what is no form is a 415 (E22)", OPEN)
def _(target: Target) -> None:
    target.raw.post("/files", {"purpose": "batch"}).refuses(415, None, None)
    target.raw.ask("POST", "/files", b"x", Content_Type="text/plain").refuses(415, None, None)
    target.raw.ask("POST", "/files", b"x").refuses(415, None, None)


@create.says("14", "a form that is broken is a 400", OPEN)
def _(target: Target) -> None:
    for body in (
        b"--x\r\nnonsense",
        b"",
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc',
    ):
        sent = target.raw.ask("POST", "/files", body, Content_Type="multipart/form-data; boundary=x")
        assert (sent.status, sent.json["error"]["type"]) == (400, "invalid_request_error"), sent


@create.says(
    "3.2",
    "content is not checked at upload, but for zero bytes; lines are the batch's affair",
    differs("OpenAI refuses a first line that is no JSON"),
    sdk=("fail_validation",),
)
def _(target: Target) -> None:
    for odd in (b"{not json", b"\xff\xfe", b"\n\n"):
        assert target.a_file(odd)["status"] == "processed"


# --- retrieve ---------------------------------------------------------------------------------------------------------


@retrieve.says("3.4", "it gives the file object", sdk=UPLOADED)
def _(target: Target) -> None:
    file = target.a_file()
    assert target.raw.get(f"/files/{file['id']}").ok == file


@retrieve.says("3.4", "an unknown id is a 404 with `param=id` (E23)", sdk=("delete_files",))
def _(target: Target) -> None:
    target.raw.get(f"/files/file_{NOBODY}").refuses(404, None, "id")


# --- content ----------------------------------------------------------------------------------------------------------


@content.says("3.5", "it gives the bytes that were uploaded", sdk=UPLOADED)
def _(target: Target) -> None:
    odd = b"\xef\xbb\xbf{}\r\n\x00\xff no newline"
    assert target.raw.get(f"/files/{target.a_file(odd)['id']}/content").body == odd


@content.says(
    "3.5", "typed `application/octet-stream`, an attachment with the file's name, and a `Content-Length`", OPEN
)
def _(target: Target) -> None:
    file = target.raw.upload(b"abc", 'my "file".jsonl'.replace('"', "%22")).ok
    answer = target.raw.get(f"/files/{file['id']}/content")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == "3"
    assert answer.headers["content-disposition"].startswith('attachment; filename="my ')


@content.says("18", "a name that is not ASCII comes back as RFC 6266 has it", OPEN)
def _(target: Target) -> None:
    file = target.raw.upload(b"abc", "\u00fcber.jsonl").ok
    assert file["filename"] == "\u00fcber.jsonl"
    named = target.raw.get(f"/files/{file['id']}/content").headers["content-disposition"]
    assert named.endswith("filename*=UTF-8''%C3%BCber.jsonl")


@content.says(
    "3.5",
    "a result file can be read while its batch runs: so far written, whole lines",
    superset("OpenAI has result files at the end only"),
    sdk=("download_while_it_is_in_progress",),
)
def _(target: Target) -> None:
    answer = target.stopped.content
    assert answer.status == 200
    assert answer.body.endswith(b"\n")
    assert len(answer.body.splitlines()) == 3
    assert answer.headers["content-length"] == str(len(answer.body)) == str(target.stopped.output["bytes"])


@content.says("3.5", "`Range` gives a part of a whole file: 206, or 416 if there is none", superset("SDKs never ask"))
def _(target: Target) -> None:
    path = f"/files/{target.a_file(b'0123456789')['id']}/content"
    for asked, sent in (("bytes=2-4", b"234"), ("bytes=7-", b"789"), ("bytes=-2", b"89")):
        answer = target.raw.ask("GET", path, Range=asked)
        assert (answer.status, answer.body) == (206, sent)
    answer = target.raw.ask("GET", path, Range="bytes=10-").refuses(416, "invalid_value", None)
    assert answer.headers["content-range"] == "bytes */10"


@content.says(
    "3.5",
    "`Nightshift-More` says whether the batch still writes to a file",
    superset("OpenAI has result files at the end only"),
)
def _(target: Target) -> None:
    assert target.stopped.content.headers["nightshift-more"] == "true"
    whole = target.raw.get(f"/files/{target.completed.shown[-1]['output_file_id']}/content")
    assert whole.headers["nightshift-more"] == "false"


@content.says("3.5", "the API serves the bytes itself: no redirect")
def _(target: Target) -> None:
    digests = set()
    for _ in range(2):
        answer = target.raw.get(f"/files/{target.completed.shown[-1]['output_file_id']}/content")
        assert answer.status == 200
        digests.add(hashlib.sha256(answer.body).hexdigest())
    assert len(digests) == 1


@content.says("3.5", "an unknown id is a 404 with `param=id` (E23)", sdk=("delete_files",))
def _(target: Target) -> None:
    target.raw.get(f"/files/file_{NOBODY}/content").refuses(404, None, "id")


# --- delete -----------------------------------------------------------------------------------------------------------


@delete.says(
    "3.6", "it answers `{id, object, deleted: true}`; then the file is a 404 everywhere", sdk=("delete_files",)
)
def _(target: Target) -> None:
    file_id = target.a_file()["id"]
    assert target.raw.delete(f"/files/{file_id}").ok == {"id": file_id, "object": "file", "deleted": True}
    target.raw.get(f"/files/{file_id}").refuses(404, None, "id")
    target.raw.get(f"/files/{file_id}/content").refuses(404, None, "id")
    target.raw.delete(f"/files/{file_id}").refuses(404, None, "id")
    assert file_id not in {file["id"] for file in target.raw.get("/files").ok["data"]}
    target.create(file_id).refuses(404, None, "input_file_id")


@delete.says(
    "3.6",
    "a file of a batch that has not ended is a 409 with `file_in_use` (E27)",
    differs("OpenAI documents no guard"),
    sdk=("download_while_it_is_in_progress",),
)
def _(target: Target) -> None:
    assert len(target.stopped.deletes) == 3
    for answer in target.stopped.deletes:
        assert answer.refuses(409, "file_in_use", "id").headers["x-should-retry"] == "false"


@delete.says("3.6", "the files of a batch that has ended may go; it goes on to show their ids", sdk=("delete_files",))
def _(target: Target) -> None:
    before, after = target.emptied.shown[-2:]
    assert before == after
    for kind in ("input", "output"):
        target.raw.get(f"/files/{after[f'{kind}_file_id']}/content").refuses(404, None, "id")
