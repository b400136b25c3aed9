"""Resources as roles read and write them: spelling, defaults, identity, tolerance of other versions."""

from datetime import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from nightshift_crds import names
from nightshift_crds.lifecycle import Phase
from nightshift_crds.models import RESOURCES, BatchJob, HostedModel, ModelService, Part, Resource, StoredFile
from nightshift_crds.names import IdKind, ResultKind
from tests.builders import BATCH_UID, BATCH_UUID, FILE_UUID, T0, a_batch, a_file, a_model, a_model_manifest

EXAMPLES: list[Resource] = [a_batch(), a_file(), a_model()]


@pytest.mark.parametrize("resource", EXAMPLES, ids=lambda r: type(r).__name__)
def test_a_manifest_is_read_back_from_what_was_written(resource: Resource) -> None:
    assert type(resource).parse(resource.dump()) == resource


@pytest.mark.parametrize("resource", EXAMPLES, ids=lambda r: type(r).__name__)
def test_a_resource_cannot_be_changed_in_place(resource: Resource) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        resource.metadata = resource.metadata  # type: ignore[misc]


def test_fields_are_spelt_as_kubernetes_and_people_spell_them() -> None:
    status = {"jobUID": "u", "input": {"key": "k", "bytes": 1, "crc32c": 7}, "outputFileId": "f"}
    batch = a_batch(status=status)
    assert (batch.status.job_uid, batch.status.output_file_id) == ("u", "f")
    assert batch.status.input is not None
    assert batch.status.input.crc32c == 7
    assert batch.dump()["status"] | status == batch.dump()["status"]


def test_what_a_newer_version_wrote_is_ignored() -> None:
    batch = a_batch(spec={"colour": "red"}, status={"mood": "fine", "counts": {"skipped": 3}})
    assert batch == a_batch()


def test_what_is_not_set_is_not_written() -> None:
    assert "metadata" not in a_batch().dump()["spec"]
    assert "status" not in HostedModel.build({"name": "m"}, a_model().spec)


def test_a_manifest_to_create_names_group_and_kind() -> None:
    service = ModelService(url="http://m")
    built = HostedModel.build({"name": "m"}, a_model().spec.model_copy(update={"service": service}))
    assert (built["apiVersion"], built["kind"], built["metadata"]) == (
        "nightshift.dev/v1alpha1",
        "HostedModel",
        {"name": "m"},
    )
    defaults = {"maxConcurrency": 64, "batchShare": 1.0, "latencyTolerance": 2.0}
    assert built["spec"]["service"] == {"url": "http://m"} | defaults


# --- identity ---------------------------------------------------------------------------------------------------------


def test_a_resource_knows_when_the_cluster_took_it_in() -> None:
    assert a_batch().created == T0
    with pytest.raises(ValueError, match="has not been created yet"):
        _ = a_model().created


def test_a_resource_is_referred_to_as_the_controller_of_another() -> None:
    reference = a_batch().owner_reference()
    assert (reference.kind, reference.uid, reference.controller) == ("BatchJob", BATCH_UID, True)
    assert reference.dump()["apiVersion"] == "nightshift.dev/v1alpha1"


def test_the_api_shows_ids_of_ours_by_name_and_hand_made_ones_by_uid() -> None:
    assert a_batch().id == names.make_id(IdKind.BATCH, BATCH_UUID)
    assert a_batch(metadata={"name": "nightly"}).id == f"batch_{BATCH_UID}"
    assert a_file().id == names.make_id(IdKind.FILE, FILE_UUID)


@pytest.mark.parametrize("kind", ResultKind)
def test_the_id_of_a_result_file_is_known_before_the_file_is_there(kind: ResultKind) -> None:
    expected = names.result_file_uuid(int(T0.timestamp() * 1000), BATCH_UID, kind)
    assert a_batch().result_file_id(kind) == f"file_{expected}"
    other = a_batch(metadata={"uid": "another"})
    assert other.result_file_id(kind) != a_batch().result_file_id(kind)


def test_a_batch_that_nobody_has_seen_is_validating() -> None:
    assert a_batch().phase is Phase.VALIDATING
    assert a_batch(status={"phase": "FAILED"}).phase is Phase.FAILED


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "part", "value"),
    [
        (BatchJob, "spec", {"input": {"fileId": "file_1"}, "endpoint": "/v1/x"}),
        (BatchJob, "spec", {"input": {}, "endpoint": "/openai/v1/x"}),
        (BatchJob, "spec", {"endpoint": "/v1/x"}),
        (BatchJob, "status", {"phase": "SLEEPING"}),
        (BatchJob, "status", {"errors": [{"code": "c", "message": "m"}] * 102}),
        (BatchJob, "status", {"counts": {"failed": -1}}),
        (StoredFile, "spec", {"filename": "f" * 513, "purpose": "batch"}),
        (StoredFile, "status", {"crc32c": 1 << 32}),
        (HostedModel, "spec", {"name": "", "service": {"url": "http://m"}}),
        (HostedModel, "spec", {"name": "m", "service": {"url": "http://m", "maxConcurrency": 0}}),
        (HostedModel, "spec", {"name": "m", "service": {"url": "http://m", "batchShare": 0}}),
        (HostedModel, "spec", {"name": "m", "service": {"url": "http://m", "batchShare": 1.01}}),
        (HostedModel, "spec", {"name": "m", "service": {"url": "http://m", "latencyTolerance": 0.9}}),
        (HostedModel, "spec", {"name": "m", "service": {"url": "http://m"}, "overridable": ["image"]}),
        (HostedModel, "spec", {"name": "m", "service": {"url": "http://m"}, "endpoints": []}),
    ],
)
def test_a_value_that_cannot_be_is_refused(resource: type[Resource], part: str, value: dict[str, Any]) -> None:
    example = next(example for example in EXAMPLES if isinstance(example, resource))
    with pytest.raises(ValidationError, match=rf"{part}\."):
        resource.parse(example.dump() | {part: value})


def test_times_are_moments_with_a_zone() -> None:
    deadline = a_batch(status={"deadline": "2026-11-24T08:00:00Z"}).status.deadline
    assert deadline == datetime.fromisoformat("2026-11-24T08:00:00+00:00")
    assert a_batch(status={"deadline": "2026-11-24T08:00:00Z"}).dump()["status"]["deadline"] == "2026-11-24T08:00:00Z"


def test_what_a_model_server_takes_is_passed_on_unread() -> None:
    server = {
        "image": "vllm:1",
        "resources": {"limits": {"nvidia.com/gpu": 1}},
        "tolerations": [{"operator": "Exists"}],
    }
    manifest = a_model_manifest()
    model = HostedModel.parse(manifest | {"spec": {"name": "m", "server": server}})
    assert model.spec.server is not None
    assert model.spec.server.dump() | server == model.spec.server.dump()


def parts_below(part: type[Part]) -> set[type[Part]]:
    """Every part that a part holds, however deep."""
    found: set[type[Part]] = set()
    queue: list[Any] = [field.annotation for field in part.model_fields.values()]
    for kind in queue:
        if isinstance(kind, type) and issubclass(kind, Part) and kind not in found:
            found.add(kind)
            queue += [field.annotation for field in kind.model_fields.values()]
        queue += getattr(kind, "__args__", ())
    return found


@pytest.mark.parametrize("resource", RESOURCES)
def test_rules_stand_only_where_they_are_enforced(resource: type[Resource]) -> None:
    top = {field.annotation for field in resource.model_fields.values()}
    assert len(parts_below(resource)) >= 5
    assert [part for part in parts_below(resource) - top if part.RULES] == []
