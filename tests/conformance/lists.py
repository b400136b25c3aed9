"""Lists and models (contract 1.6, 3.3, 4.3, 6)."""

from typing import Any
from urllib.parse import quote

from tests.conformance.fields import Field, is_time, state_fields
from tests.conformance.statements import OPEN, Place, differs, superset
from tests.conformance.target import NOBODY, Object, Target

lists = Place("Lists")
files = Place("GET /files")
batches = Place("GET /batches")
models = Place("GET /models")
model = Place("GET /models/{model}")
PAGED = ("list_with_auto_paging",)


def walk(target: Target, path: str, **query: Any) -> list[Object]:
    """Read a list page by page, as the SDKs do."""
    found: list[Object] = []
    while True:
        page = target.raw.get(path, **query | ({"after": found[-1]["id"]} if found else {})).ok
        found += page["data"]
        if not page["has_more"]:
            return found
        assert page["data"]


@lists.says("1.6", "`{object: list, data, first_id, last_id, has_more}`, all always there", sdk=PAGED)
def _(target: Target) -> None:
    assert target.stories
    for path in ("/files", "/batches"):
        page = target.raw.get(path, limit=2).ok
        assert page.keys() == {"object", "data", "first_id", "last_id", "has_more"}
        assert (page["object"], page["has_more"], len(page["data"])) == ("list", True, 2)
        assert [page["first_id"], page["last_id"]] == [item["id"] for item in page["data"]]


@lists.says("1.6", "an empty page has null for `first_id` and `last_id`, and `has_more` false")
def _(target: Target) -> None:
    page = target.raw.get("/files", purpose="nothing").ok
    assert page == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@lists.says("1.6", "`after` goes on behind an id: pages neither skip nor repeat", sdk=PAGED)
def _(target: Target) -> None:
    made = [target.a_file()["id"] for _ in range(5)]
    for limit in (3, 100):
        ids = [file["id"] for file in walk(target, "/files", limit=limit)]
        assert len(ids) == len(set(ids))
        assert [file_id for file_id in ids if file_id in made] == made[::-1]


@lists.says("1.6", "the order is total: `created_at`, then id", OPEN, sdk=PAGED)
def _(target: Target) -> None:
    for path in ("/files", "/batches"):
        found = [(item["created_at"], item["id"]) for item in walk(target, path, limit=7)]
        assert found == sorted(found, reverse=True)


@lists.says("18", "`after` may name what has been deleted since", OPEN)
def _(target: Target) -> None:
    older, cursor, newer = (target.a_file()["id"] for _ in range(3))
    assert target.raw.delete(f"/files/{cursor}").ok
    ids = [file["id"] for file in target.raw.get("/files", after=cursor, limit=1_000).ok["data"]]
    assert older in ids
    assert newer not in ids


@lists.says("14", "`after` that is no id is refused (E28)", OPEN)
def _(target: Target) -> None:
    for after in ("nonsense", "file_", f"batch_{NOBODY}", "file_0192f0c2-0000-4000-8000-000000000000"):
        target.raw.get("/files", after=after).refuses(400, "invalid_value", "after")
    target.raw.get("/batches", after=f"file_{NOBODY}").refuses(400, "invalid_value", "after")


@lists.says("14", "a `limit` that is no integer, or out of bounds, is refused (E28)", OPEN)
def _(target: Target) -> None:
    for path, most in (("/files", 10_000), ("/batches", 100)):
        for wrong in ("ten", "1.0", "1e2", " 1"):
            target.raw.get(path, limit=wrong).refuses(400, "invalid_type", "limit")
        for small in (0, -1):
            target.raw.get(path, limit=small).refuses(400, "integer_below_min_value", "limit")
        for large in (most + 1, 10**40):
            target.raw.get(path, limit=large).refuses(400, "integer_above_max_value", "limit")
        assert target.raw.get(path, limit=most).ok


# --- files and batches ------------------------------------------------------------------------------------------------


@files.says("3.3", "newest first; `order=asc` is the other way round", sdk=PAGED)
def _(target: Target) -> None:
    first, second = (target.a_file()["id"] for _ in range(2))
    for order in ({}, {"order": "desc"}):
        ids = [file["id"] for file in target.raw.get("/files", **order).ok["data"]]
        assert ids.index(second) < ids.index(first)
    ids = [file["id"] for file in target.raw.get("/files", order="asc").ok["data"]]
    assert ids.index(first) < ids.index(second)


@files.says("14", "another `order` is refused (E28)", OPEN)
def _(target: Target) -> None:
    for order in ("up", "", "ASC"):
        target.raw.get("/files", order=order).refuses(400, "invalid_value", "order")


@files.says("3.3", "`purpose` selects; one that nobody knows gives an empty list", OPEN, sdk=PAGED)
def _(target: Target) -> None:
    ended = target.completed.shown[-1]
    for purpose, member in (("batch", ended["input_file_id"]), ("batch_output", ended["output_file_id"])):
        found = target.raw.get("/files", purpose=purpose).ok["data"]
        assert {file["purpose"] for file in found} == {purpose}
        assert member in {file["id"] for file in found}
    assert target.raw.get("/files", purpose="nothing").ok["data"] == []


@files.says("3.3", "output and error files are listed", sdk=("run_a_batch_to_its_end",))
def _(target: Target) -> None:
    ids = {file["id"] for file in target.raw.get("/files").ok["data"]}
    for kind in ("input", "output", "error"):
        assert target.completed.shown[-1][f"{kind}_file_id"] in ids


@files.says("3.3", "each as retrieve shows it")
def _(target: Target) -> None:
    wanted = target.completed.shown[-1]["output_file_id"]
    assert target.raw.get(f"/files/{wanted}").ok in target.raw.get("/files").ok["data"]


@batches.says("4.3", "newest first, 20 of them unless `limit` says otherwise", sdk=PAGED)
def _(target: Target) -> None:
    file_id = target.a_file(b"\n")["id"]
    made = [target.create(file_id).ok["id"] for _ in range(21)]
    page = target.raw.get("/batches").ok
    assert (len(page["data"]), page["has_more"]) == (20, True)
    ids = [batch["id"] for batch in target.raw.get("/batches", limit=100).ok["data"]]
    assert [batch_id for batch_id in ids if batch_id in made] == made[::-1]


@batches.says("4.3", "each as retrieve shows it, once it has ended")
def _(target: Target) -> None:
    assert target.completed.shown[-1] in walk(target, "/batches", limit=100)


# --- models -----------------------------------------------------------------------------------------------------------


def every_model(target: Target) -> list[Object]:
    listed: list[Object] = target.raw.get("/models").ok["data"]
    return listed


state_fields(
    models,
    "6",
    every_model,
    Field("id", "the name that lines give as `model`", lambda found: bool(found["id"]), sdk=("use_models",)),
    Field("object", "`model`", lambda found: found["object"] == "model", sdk=("use_models",)),
    Field("created", "a time", lambda found: is_time(found["created"]), sdk=("use_models",)),
    Field("owned_by", "a string", lambda found: bool(found["owned_by"]), sdk=("use_models",)),
    Field("shutdown_date", "null", lambda found: found["shutdown_date"] is None),
)


@models.says(
    "6",
    "it lists what can be batched, and nothing else",
    differs("OpenAI lists models that cannot be batched too"),
    sdk=("use_models",),
)
def _(target: Target) -> None:
    listed = target.raw.get("/models").ok
    assert listed.keys() == {"object", "data"}
    assert {*target.models} <= {found["id"] for found in listed["data"]}


@model.says(
    "1.1", "a name may have `:` and `/`, encoded or not", superset("OpenAI's names have no `/`"), sdk=("use_models",)
)
def _(target: Target) -> None:
    for name in target.models:
        for spelt in (name, quote(name, safe=""), quote(name, safe="/:")):
            found = target.raw.get(f"/models/{spelt}").ok
            assert found["id"] == name
            assert found in every_model(target)


@model.says("14", "an unknown one is a 404 with `model_not_found` (E25)", sdk=("use_models",))
def _(target: Target) -> None:
    for name in ("nothing", "some/other:model", "a%2Fb"):
        target.raw.get(f"/models/{name}").refuses(404, "model_not_found", "model")


@model.says("6", "`DELETE` is a 405", differs("OpenAI deletes fine-tuned models"))
def _(target: Target) -> None:
    target.raw.delete(f"/models/{target.model}").refuses(405, None, None)
