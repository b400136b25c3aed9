"""The CRDs that the models make: structural, as committed, and of one mind with the models and the local cluster."""

import re
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import cel
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from nightshift_crds.cluster.local import admit
from nightshift_crds.cluster.port import BATCH_JOB, HOSTED_MODEL, KINDS, Kind, Manifest
from nightshift_crds.errors import Refused
from nightshift_crds.lifecycle import Phase, can_move
from nightshift_crds.models import RESOURCES, WEEKDAYS, BatchJob, ObjectMeta, Part, Resource
from nightshift_crds.schema import build_crd, build_schema
from tests.builders import FILE_ID, a_batch_manifest, a_model_manifest

CRDS = Path(__file__).resolve().parents[2] / "crds"
STRUCTURAL = {
    "string": {"format", "enum", "pattern", "minLength", "maxLength"},
    "integer": {"minimum", "maximum"},
    "number": {"minimum", "maximum"},
    "boolean": set(),
    "array": {"items", "minItems", "maxItems", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"},
    "object": {
        "properties",
        "required",
        "additionalProperties",
        "maxProperties",
        "x-kubernetes-preserve-unknown-fields",
    },
}
ANYWHERE = {"type", "description", "default", "x-kubernetes-validations"}
HELD_BY_KUBERNETES = {("apiVersion",), ("kind",), ("metadata",)}
Node = dict[str, Any]


def nodes_of(node: Node, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Node]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes_of(child, (*path, name))
    for keyword in ("items", "additionalProperties"):
        if keyword in node:
            yield from nodes_of(node[keyword], (*path, f"[{keyword}]"))


def is_bounded(node: Node) -> bool:
    """Tell whether the API server can bound what a rule over this costs."""
    match node["type"]:
        case "string":
            return bool({"maxLength", "enum", "format"} & node.keys())
        case "array":
            return "maxItems" in node
        case "object":
            return "additionalProperties" not in node or "maxProperties" in node
    return True


# --- form -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resource", RESOURCES)
def test_a_schema_is_structural(resource: type[Resource]) -> None:
    for path, node in nodes_of(build_schema(resource)):
        assert node.keys() - ANYWHERE <= STRUCTURAL[node["type"]], path
        assert not {"properties", "additionalProperties"} <= node.keys(), path
        assert set(node.get("required", ())) <= node.get("properties", {}).keys(), path
        assert node["type"] != "array" or {"items", "x-kubernetes-list-type"} <= node.keys(), path


@pytest.mark.parametrize("resource", RESOURCES)
def test_everything_has_a_maximum(resource: type[Resource]) -> None:
    nodes = [(path, node) for path, node in nodes_of(build_schema(resource)) if path not in HELD_BY_KUBERNETES]
    assert [path for path, node in nodes if not is_bounded(node)] == []


@pytest.mark.parametrize("resource", RESOURCES)
def test_what_has_a_default_is_not_required(resource: type[Resource]) -> None:
    for path, node in nodes_of(build_schema(resource)):
        required = set(node.get("required", ()))
        assert not [name for name in required if "default" in node["properties"][name]], path


@pytest.mark.parametrize("resource", RESOURCES)
def test_every_field_that_a_person_sets_or_reads_has_a_place_in_kubectl_explain(resource: type[Resource]) -> None:
    schema = build_schema(resource)
    assert schema["description"]
    for part in ("spec", "status"):
        assert schema["properties"].get(part, {}).get("description", resource.__name__)


@pytest.mark.parametrize("resource", RESOURCES)
def test_the_committed_crd_is_the_one_that_the_models_make(resource: type[Resource]) -> None:
    text = (CRDS / f"{resource.__name__.lower()}.yaml").read_text()
    assert yaml.safe_load(text) == build_crd(resource)


def test_tokens_and_cost_of_a_batch_are_columns_that_people_ask_for() -> None:
    [version] = build_crd(BatchJob)["spec"]["versions"]
    wide = [c["name"] for c in version["additionalPrinterColumns"] if c.get("priority") == 1]
    assert wide == ["Tokens", "GPU-s", "Cost", "Currency"]


@pytest.mark.parametrize("resource", RESOURCES)
def test_columns_and_selectors_name_fields_that_there_are(resource: type[Resource]) -> None:
    (version,) = build_crd(resource)["spec"]["versions"]
    known = {f".{'.'.join(path)}" for path, _ in nodes_of(version["schema"]["openAPIV3Schema"])}
    shown = [column["jsonPath"] for column in version["additionalPrinterColumns"]]
    selected = [field["jsonPath"] for field in version.get("selectableFields", [])]
    assert set(shown) - known == {".metadata.creationTimestamp"}
    assert set(selected) <= known


def test_an_empty_list_of_selectors_is_left_out() -> None:
    (version,) = build_crd(HOSTED_MODEL.model or Resource)["spec"]["versions"]
    assert "selectableFields" not in version


# --- what no structural schema can say --------------------------------------------------------------------------------


class Two(Part):
    """A field of two types."""

    value: Annotated[int, Field(ge=0)] | Annotated[str, Field(max_length=1)]


class Unheard(Part):
    """A keyword that nobody has thought about."""

    value: Annotated[int, Field(multiple_of=2)]


@pytest.mark.parametrize(("part", "problem"), [(Two, "one type a field"), (Unheard, "multipleOf")])
def test_what_cannot_be_said_is_an_error_and_not_left_out(part: type[Part], problem: str) -> None:
    resource = type("Wrong", (Resource,), {"__annotations__": {"metadata": ObjectMeta, "spec": part}, "__doc__": "x"})
    with pytest.raises(ValueError, match=problem):
        build_schema(resource)


# --- one mind ---------------------------------------------------------------------------------------------------------


def problems_of(node: Node, value: Any, path: str = "") -> list[str]:
    """Check a value as the API server does, by the keywords that our schemas use."""
    if not isinstance(value, _TYPES[node["type"]]) or (isinstance(value, bool) and node["type"] != "boolean"):
        return [f"{path}: not a {node['type']}"]
    found = [f"{path}: {keyword}" for keyword, holds in _CHECKS.items() if keyword in node and not holds(node, value)]
    if isinstance(value, dict):
        found += [f"{path}.{name}: missing" for name in node.get("required", ()) if name not in value]
        for name, child in value.items():
            below = node.get("properties", {}).get(name) or node.get("additionalProperties")
            found += problems_of(below, child, f"{path}.{name}") if below else []
    if isinstance(value, list):
        found += [problem for child in value for problem in problems_of(node["items"], child, f"{path}[]")]
    return found


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
_CHECKS: dict[str, Callable[[Node, Any], bool]] = {
    "enum": lambda node, value: value in node["enum"],
    # In Go's expressions `$` is the end of the text, never the newline before it.
    "pattern": lambda node, value: re.search(node["pattern"].replace("$", r"\Z"), value) is not None,
    "minLength": lambda node, value: len(value) >= node["minLength"],
    "maxLength": lambda node, value: len(value) <= node["maxLength"],
    "minimum": lambda node, value: value >= node["minimum"],
    "maximum": lambda node, value: value <= node["maximum"],
    "minItems": lambda node, value: len(value) >= node["minItems"],
    "maxItems": lambda node, value: len(value) <= node["maxItems"],
    "maxProperties": lambda node, value: len(value) <= node["maxProperties"],
}


def verdicts_of(kind: Kind, manifest: Manifest) -> tuple[bool, bool, bool]:
    """Tell whether model, schema and local cluster accept a new object."""
    assert kind.model is not None
    try:
        kind.model.parse(manifest)
        by_model = True
    except ValidationError:
        by_model = False
    try:
        admit(kind, manifest, None)
        admitted = True
    except Refused:
        admitted = False
    return by_model, not problems_of(SCHEMAS[kind.model], manifest), admitted


SCHEMAS = {resource: build_schema(resource) for resource in RESOURCES}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ENDPOINT = st.from_regex("^/v1/[a-z0-9/_-]{1,50}$", fullmatch=True)
BATCH_SPECS = st.fixed_dictionaries(
    {
        "input": st.sampled_from([{"fileId": FILE_ID}, {"uri": "gs://bucket/key"}, {"rerunOf": "batch-1"}]),
        "endpoint": ENDPOINT,
    },
    optional={
        "completionWindow": st.just("24h"),
        "metadata": st.dictionaries(TEXT, st.text(max_size=5) | st.just("日" * 512), max_size=16),
        "outputExpiresAfterSeconds": st.integers(3_600, 2_592_000),
        "model": st.text(st.sampled_from("a/:日"), min_size=1, max_size=256),
        "scheduling": st.fixed_dictionaries({}, optional={"gpuType": TEXT, "spot": st.booleans(), "queue": TEXT}),
        "cancelRequested": st.booleans(),
        "cancelRequestedAt": st.datetimes().map(lambda moment: f"{moment.isoformat()}Z"),
        "suspend": st.booleans(),
        "addedLater": st.integers(),
    },
)
MODEL_SPECS = st.fixed_dictionaries(
    {"name": st.text(st.sampled_from("a/:日"), min_size=1, max_size=256)},
    optional={
        "endpoints": st.lists(ENDPOINT, min_size=1, max_size=16),
        "shards": st.integers(1, 64),
        "pricing": st.fixed_dictionaries(
            {}, optional={"currency": st.sampled_from(["EUR", "JPY"]), "perMillionInputTokens": st.floats(0, 1e9)}
        ),
        "overridable": st.lists(st.sampled_from(["gpuType", "spot", "priorityClassName", "queue"]), max_size=4),
        "windows": st.lists(
            st.fixed_dictionaries(
                {"start": st.times().map(lambda at: f"{at:%H:%M}"), "end": st.just("00:00")},
                optional={"days": st.sets(st.sampled_from(WEEKDAYS)).map(list), "timeZone": st.just("Europe/Berlin")},
            ),
            max_size=16,
        ),
    },
)
WAYS = st.sampled_from(
    [
        {"service": {"url": "http://m", "maxConcurrency": 10_000, "batchShare": 0.01, "latencyTolerance": 1.5}},
        {"server": {"image": "vllm:1", "port": 65_535, "resources": {"limits": {"cpu": 1}}, "tolerations": [{"a": 1}]}},
    ]
)
WRONG_OF_A_BATCH: list[tuple[str, Any]] = [
    ("input", {"fileId": "file_1"}),
    ("input", {"uri": "x" * 1_025}),
    ("input", "file"),
    ("endpoint", "/v2/x"),
    ("endpoint", "/v1/X"),
    ("endpoint", "/v1/x\n"),
    ("endpoint", f"/v1/{'x' * 64}"),
    ("endpoint", 7),
    ("completionWindow", "1h"),
    ("metadata", {str(n): "" for n in range(17)}),
    ("metadata", {"k": "v" * 513}),
    ("metadata", {"k": 7}),
    ("metadata", ["k"]),
    ("outputExpiresAfterSeconds", 3_599),
    ("outputExpiresAfterSeconds", 2_592_001),
    ("outputExpiresAfterSeconds", [1]),
    ("model", ""),
    ("model", "m" * 257),
    ("scheduling", {"gpuType": "g" * 64}),
    ("suspend", {}),
]


@given(BATCH_SPECS)
def test_a_batch_that_the_model_accepts_is_accepted_by_schema_and_cluster(spec: dict[str, Any]) -> None:
    manifest = a_batch_manifest() | {"spec": spec}
    assert verdicts_of(BATCH_JOB, manifest) == (True, True, True)


@given(MODEL_SPECS, WAYS)
def test_a_hosted_model_that_the_model_accepts_is_accepted_by_schema_and_cluster(
    spec: dict[str, Any], way: dict[str, Any]
) -> None:
    manifest = a_model_manifest() | {"spec": spec | way}
    assert verdicts_of(HOSTED_MODEL, manifest) == (True, True, True)


@pytest.mark.parametrize(("field", "value"), WRONG_OF_A_BATCH)
@settings(max_examples=5)
@given(spec=BATCH_SPECS)
def test_a_batch_with_one_wrong_field_is_refused_by_all_three(spec: dict[str, Any], field: str, value: Any) -> None:
    manifest = a_batch_manifest() | {"spec": spec | {field: value}}
    assert verdicts_of(BATCH_JOB, manifest) == (False, False, False)


@pytest.mark.parametrize("lacking", ["input", "endpoint"])
@settings(max_examples=5)
@given(spec=BATCH_SPECS)
def test_a_batch_without_a_field_that_it_needs_is_refused_by_all_three(spec: dict[str, Any], lacking: str) -> None:
    manifest = a_batch_manifest() | {"spec": {key: value for key, value in spec.items() if key != lacking}}
    assert verdicts_of(BATCH_JOB, manifest) == (False, False, False)


@pytest.mark.parametrize(
    "window",
    [
        {"start": "24:00", "end": "06:00"},
        {"start": "6:00", "end": "06:00"},
        {"start": "06:00\n", "end": "07:00"},
        {"start": "06:00"},
        {"end": "06:00"},
        {"start": "22:00", "end": "06:60"},
        {"start": "22:00", "end": "06:00", "days": ["Monday"]},
        {"start": "22:00", "end": "06:00", "days": [1]},
        {"start": "22:00", "end": "06:00", "timeZone": ""},
        {"start": "22:00", "end": "06:00", "timeZone": "x" * 65},
    ],
)
def test_a_window_that_no_clock_shows_is_refused_by_all_three(window: dict[str, Any]) -> None:
    manifest = a_model_manifest(windows=[window])
    assert verdicts_of(HOSTED_MODEL, manifest) == (False, False, False)


@pytest.mark.parametrize(
    "pricing",
    [{"currency": "EURO"}, {"currency": "eur"}, {"perMillionInputTokens": -0.1}, {"perMillionOutputTokens": 1e10}],
)
def test_a_price_that_nobody_could_pay_is_refused_by_all_three(pricing: dict[str, Any]) -> None:
    assert verdicts_of(HOSTED_MODEL, a_model_manifest(pricing=pricing)) == (False, False, False)


@pytest.mark.parametrize("price", [2, 0.7])
def test_a_price_per_gpu_hour_takes_a_server(price: float) -> None:
    manifest = a_model_manifest(pricing={"perGpuHour": price})
    with pytest.raises(Refused, match="a price per GPU hour takes a server"):
        admit(HOSTED_MODEL, manifest, None)
    of_a_server = {"name": "m", "server": {"image": "vllm:1"}, "pricing": {"perGpuHour": price}}
    assert admit(HOSTED_MODEL, manifest | {"spec": of_a_server}, None)["spec"]["pricing"]["currency"] == "USD"
    assert admit(HOSTED_MODEL, a_model_manifest(pricing={"perGpuHour": 0}), None)


@given(BATCH_SPECS)
def test_what_is_admitted_is_whole_and_admitted_again_as_it_is(spec: dict[str, Any]) -> None:
    admitted = admit(BATCH_JOB, a_batch_manifest() | {"spec": spec}, None)
    assert admitted["spec"]["completionWindow"] == "24h"
    assert "addedLater" not in admitted["spec"]
    assert admit(BATCH_JOB, admitted, admitted) == admitted


# --- rules ------------------------------------------------------------------------------------------------------------


def rules_of(resource: type[Resource]) -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    for path, node in nodes_of(build_schema(resource)):
        for rule in node.get("x-kubernetes-validations", []):
            yield path, rule


RULES = [(resource, path, rule) for resource in RESOURCES for path, rule in rules_of(resource)]
MOVES = [rule["rule"] for _, path, rule in RULES if path == ("status",) and "docs/lifecycle.md" in rule["message"]]


@pytest.mark.parametrize("rule", [rule for _, _, rule in RULES], ids=lambda rule: str(rule["message"]))
def test_every_rule_compiles_and_says_in_words_what_it_forbids(rule: dict[str, str]) -> None:
    cel.compile(rule["rule"])
    assert re.fullmatch(r"[^{}]{10,}", rule["message"])


def test_rules_stand_where_the_cluster_looks_for_them() -> None:
    assert {(resource.__name__, path) for resource, path, _ in RULES} == {
        ("BatchJob", ()),
        ("BatchJob", ("spec",)),
        ("BatchJob", ("status",)),
        ("StoredFile", ("spec",)),
        ("HostedModel", ("spec",)),
    }


@pytest.mark.parametrize(("before", "after"), list(product([None, *Phase], [None, *Phase])))
def test_the_rule_of_moves_is_the_table(before: Phase | None, after: Phase | None) -> None:
    (rule,) = MOVES
    old, new = ({"phase": str(phase)} if phase else {} for phase in (before, after))
    may = cel.compile(rule).execute({"self": new, "oldSelf": old})
    # A first phase is judged by the rule of starts, and none that was set may be taken away.
    assert may is (before is None or (after is not None and can_move(before, after)))


@pytest.mark.parametrize("kind", list(KINDS.values()), ids=lambda kind: str(kind.kind))
def test_a_kind_that_is_not_ours_is_admitted_as_it_is(kind: Kind) -> None:
    manifest = {"metadata": {"name": "x"}, "anything": [1]}
    if kind.model is None:
        assert admit(kind, manifest, None) is manifest
    else:
        with pytest.raises(Refused, match="spec: Field required"):
            admit(kind, manifest, None)
