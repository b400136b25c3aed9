"""ServiceAccount tokens as API keys: who is let in, what RBAC lets them do, and how fast that changes (design 8)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx2
import pytest

from nightshift_api.access import Access, access_of
from nightshift_api.accounts import ServiceAccounts, build_question, is_token, parse_account
from nightshift_api.app import build_app
from nightshift_api.auth import Keyring
from nightshift_api.context import Context
from nightshift_api.routes import build_operations
from nightshift_crds.bucket import open_bucket
from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.port import HOSTED_MODEL, SUBJECT_ACCESS_REVIEW, TOKEN_REVIEW, Kind, Manifest
from nightshift_crds.errors import Refused, Unavailable
from nightshift_crds.keys import render_keys
from nightshift_crds.lines import CHAT
from tests.api.faults import InterruptedCluster, failing
from tests.api.harness import BASE, KEY, Clock, client_of, error_of, filled_lists, json_of, make_settings
from tests.api.schema import Description
from tests.builders import MODEL, NAMESPACE, a_line, a_model_manifest, jsonl

if TYPE_CHECKING:
    from tests.kubernetes import Kubernetes

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln-_"
WRONG = ("invalid_api_key", None)
USER = {
    "username": f"system:serviceaccount:{NAMESPACE}:robot",
    "uid": "robot-uid",
    "groups": ["system:serviceaccounts", "system:authenticated"],
    "extra": {"authentication.kubernetes.io/pod-name": ["a-pod"]},
}
LIST_FILES = Access("list", "storedfiles")
EVERYTHING = frozenset({LIST_FILES, Access("list", "batchjobs"), Access("list", "hostedmodels")})


@dataclass
class Reviewers(InterruptedCluster):
    """A cluster that answers reviews: which tokens it knows, and what their users may do."""

    users: dict[str, Manifest] = field(default_factory=lambda: {TOKEN: USER})
    rights: frozenset[Access] = EVERYTHING
    asked: list[tuple[Kind, Manifest]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        if kind not in {TOKEN_REVIEW, SUBJECT_ACCESS_REVIEW}:
            return await super().create(kind, manifest)
        await self._interrupt(kind.kind)
        assert (manifest["apiVersion"], manifest["kind"], manifest["metadata"]) == (kind.api_version, kind.kind, {})
        self.asked.append((kind, manifest["spec"]))
        return manifest | {"status": self._review(kind, manifest["spec"])}

    def _review(self, kind: Kind, spec: Manifest) -> Manifest:
        if kind is TOKEN_REVIEW:
            user = self.users.get(spec["token"])
            return {"authenticated": True, "user": user} if user else {"error": "invalid bearer token"}
        wanted = spec["resourceAttributes"]
        return {"allowed": Access(wanted["verb"], wanted["resource"]) in self.rights}

    def count(self, kind: Kind) -> int:
        return sum(asked is kind for asked, _ in self.asked)


@dataclass(frozen=True)
class Guarded:
    """An API that believes to stand on Kubernetes."""

    robot: httpx2.AsyncClient
    """Has a ServiceAccount's token."""
    person: httpx2.AsyncClient
    """Has an API key of the same namespace."""
    reviewers: Reviewers
    clock: Clock
    description: Description
    app: Any

    def with_key(self, key: str) -> httpx2.AsyncClient:
        return client_of(self.app, key, self.description)


@asynccontextmanager
async def open_guarded(
    folder: Path, cluster_url: str = f"kubernetes://{NAMESPACE},team-b", **settings: Any
) -> AsyncIterator[Guarded]:
    local = make_settings(folder, **settings)
    loaded = local.model_copy(update={"cluster": cluster_url})
    loaded.api_keys_file.write_text(render_keys({KEY: NAMESPACE}))
    reviewers, clock = Reviewers(), Clock()
    async with (
        open_cluster(local.cluster) as cluster,
        open_bucket(local.bucket) as bucket,
        filled_lists(reviewers.around(cluster), loaded) as lists,
    ):
        app = build_app(Context(lists, bucket, loaded, now=clock), Keyring(loaded.api_keys_file))
        async with client_of(app) as plain:
            description = json_of(await plain.get(f"{BASE}/openapi.json"), 200)
        async with client_of(app, TOKEN, description) as robot, client_of(app, KEY, description) as person:
            yield Guarded(robot, person, reviewers, clock, description, app)


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    async with open_guarded(tmp_path) as opened:
        yield opened


# --- who is let in ----------------------------------------------------------------------------------------------------


async def test_a_service_account_sees_what_is_in_its_own_namespace(guarded: Guarded) -> None:
    await guarded.reviewers.inner.create(*a_model_of(NAMESPACE))
    await guarded.reviewers.inner.create(*a_model_of("team-b", "theirs"))
    assert [item["id"] for item in json_of(await guarded.robot.get("models"), 200)["data"]] == [MODEL]


def a_model_of(namespace: str, name: str = MODEL) -> tuple[Kind, Manifest]:
    manifest = a_model_manifest(name)
    return HOSTED_MODEL, manifest | {"metadata": manifest["metadata"] | {"namespace": namespace}}


async def test_a_token_may_also_come_as_azures_clients_send_keys(guarded: Guarded) -> None:
    async with client_of(guarded.app, description=guarded.description) as client:
        assert (await client.get("models", headers={"api-key": TOKEN})).status_code == 200


async def test_an_api_key_is_asked_of_nobody_and_may_do_everything(guarded: Guarded) -> None:
    guarded.reviewers.rights = frozenset()
    assert (await guarded.person.get("files")).status_code == 200
    assert guarded.reviewers.asked == []


@pytest.mark.parametrize("token", [TOKEN + "x", TOKEN.replace("eyJ", "fyJ")])
async def test_a_token_that_kubernetes_does_not_know_is_a_wrong_key(guarded: Guarded, token: str) -> None:
    async with guarded.with_key(token) as client:
        assert error_of(await client.get("models"), 401) == WRONG
    assert guarded.reviewers.count(TOKEN_REVIEW) == 1
    assert guarded.reviewers.count(SUBJECT_ACCESS_REVIEW) == 0


@pytest.mark.parametrize("key", ["sk-wrong", "a.b", "a.b.c.d", "a..c", "a.b.c=", "a.b.é", "a" * 16_380 + ".b.cc"])
async def test_what_is_no_token_is_shown_to_nobody(guarded: Guarded, key: str) -> None:
    async with client_of(guarded.app, description=guarded.description) as client:
        answer = await client.get("models", headers={b"api-key": key.encode("latin-1")})
    assert error_of(answer, 401) == WRONG
    assert guarded.reviewers.asked == []


def test_a_token_of_the_greatest_length_is_one() -> None:
    assert is_token("a" * 16_380 + ".b.c")
    assert not is_token("a" * 16_381 + ".b.c")
    assert not is_token("a.b.c\n")


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"user": USER},
        {"authenticated": False, "user": USER},
        {"authenticated": "true", "user": USER},
        {"authenticated": True},
        {"authenticated": True, "user": {"username": "ada"}},
        {"authenticated": True, "user": {"username": "system:node:one"}},
        {"authenticated": True, "user": {"username": f"system:serviceaccount:{NAMESPACE}"}},
        {"authenticated": True, "user": {"username": f"system:serviceaccount:{NAMESPACE}:a:b"}},
        {"authenticated": True, "user": {"username": f"x:system:serviceaccount:{NAMESPACE}:robot"}},
        {"authenticated": True, "user": {"username": f"system:serviceaccount:{NAMESPACE}:robot\n"}},
    ],
    ids=str,
)
def test_only_a_service_account_that_kubernetes_vouches_for_is_one(status: Manifest) -> None:
    assert parse_account(status) is None
    found = parse_account({"authenticated": True, "user": USER})
    assert found is not None
    assert (found.namespace, found.name) == (NAMESPACE, "robot")


async def test_a_namespace_that_is_not_served_is_told_so(guarded: Guarded) -> None:
    guarded.reviewers.users[TOKEN] = USER | {"username": "system:serviceaccount:team-c:robot"}
    answer = await guarded.robot.get("models")
    assert error_of(answer, 403) == (None, None)
    assert "'team-c' is not served" in answer.text
    assert guarded.reviewers.count(SUBJECT_ACCESS_REVIEW) == 0


async def test_an_installation_that_serves_all_namespaces_serves_every_account(tmp_path: Path) -> None:
    async with open_guarded(tmp_path, "kubernetes://") as guarded:
        guarded.reviewers.users[TOKEN] = USER | {"username": "system:serviceaccount:team-c:robot"}
        assert (await guarded.robot.get("models")).status_code == 200


@pytest.mark.parametrize(
    ("url", "settings"),
    [("kubernetes://team-a", {"service_account_tokens": False}), ("sqlite:///elsewhere", {})],
    ids=["switched off", "on one machine"],
)
async def test_where_tokens_are_not_taken_one_is_a_wrong_key(
    tmp_path: Path, url: str, settings: dict[str, bool]
) -> None:
    async with open_guarded(tmp_path, url, **settings) as guarded:
        assert error_of(await guarded.robot.get("models"), 401) == WRONG
        assert guarded.reviewers.asked == []


# --- what they may do -------------------------------------------------------------------------------------------------


def test_every_call_is_a_verb_on_a_resource() -> None:
    said = {(o.method, o.path): str(access_of(o.method, o.path)) for o in build_operations(cast(Context, None))}
    expected = {
        ("POST", "/files"): "create storedfiles",
        ("GET", "/files"): "list storedfiles",
        ("GET", "/files/{file_id}"): "get storedfiles",
        ("DELETE", "/files/{file_id}"): "delete storedfiles",
        ("GET", "/files/{file_id}/content"): "get storedfiles",
        ("POST", "/batches"): "create batchjobs",
        ("GET", "/batches"): "list batchjobs",
        ("GET", "/batches/{batch_id}"): "get batchjobs",
        ("POST", "/batches/{batch_id}/cancel"): "patch batchjobs",
        ("POST", "/batches/{batch_id}/rerun"): "create batchjobs",
        ("POST", "/batches/{batch_id}/resume"): "patch batchjobs",
        ("POST", "/batches/{batch_id}/suspend"): "patch batchjobs",
        ("GET", "/models"): "list hostedmodels",
        ("GET", "/models/{model:path}"): "list hostedmodels",
    }
    uploads = {call: needed for call, needed in said.items() if call[1].startswith("/uploads")}
    assert said == expected | uploads
    assert set(uploads.values()) <= {"create storedfiles"}


def test_a_call_that_nobody_has_thought_of_is_nobodys_right() -> None:
    with pytest.raises(KeyError):
        access_of("DELETE", "/batches/{batch_id}")


def test_the_question_tells_all_that_is_known_of_the_account() -> None:
    account = parse_account({"authenticated": True, "user": USER})
    assert account is not None
    assert build_question(account, LIST_FILES) == {
        "user": USER["username"],
        "uid": USER["uid"],
        "groups": USER["groups"],
        "extra": USER["extra"],
        "resourceAttributes": {
            "namespace": NAMESPACE,
            "group": "nightshift.dev",
            "resource": "storedfiles",
            "verb": "list",
        },
    }


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("POST", "files", "create storedfiles"),
        ("GET", "files", "list storedfiles"),
        ("HEAD", "files", "list storedfiles"),
        ("GET", "files/x", "get storedfiles"),
        ("GET", "files/x/content", "get storedfiles"),
        ("DELETE", "files/x", "delete storedfiles"),
        ("POST", "batches", "create batchjobs"),
        ("GET", "batches", "list batchjobs"),
        ("GET", "batches/x", "get batchjobs"),
        ("POST", "batches/x/cancel", "patch batchjobs"),
        ("GET", "models", "list hostedmodels"),
        ("GET", "models/a/b", "list hostedmodels"),
    ],
)
async def test_a_call_is_refused_without_the_right_that_it_needs_whatever_else_there_is(
    guarded: Guarded, method: str, path: str, needed: str
) -> None:
    verb, _, resource = needed.partition(" ")
    operations = build_operations(cast(Context, None))
    others = {access_of(operation.method, operation.path) for operation in operations}
    guarded.reviewers.rights = frozenset(others - {Access(verb, resource)})
    answer = await guarded.robot.request(method, path)
    assert answer.status_code == 403
    if method != "HEAD":
        assert error_of(answer, 403) == (None, None)
        assert f"'{NAMESPACE}/robot' may not {needed}" in answer.text
    guarded.reviewers.rights = frozenset({Access(verb, resource)})
    guarded.clock.advance(seconds=5)
    assert (await guarded.robot.request(method, path)).status_code not in {401, 403}


async def test_a_route_that_there_is_not_needs_no_right(guarded: Guarded) -> None:
    guarded.reviewers.rights = frozenset()
    assert error_of(await guarded.robot.get("nothing"), 404) == (None, None)
    assert error_of(await guarded.robot.put("files"), 405) == (None, None)


# --- how fast that changes --------------------------------------------------------------------------------------------


async def test_an_answer_holds_for_30_seconds(guarded: Guarded) -> None:
    assert (await guarded.robot.get("files")).status_code == 200
    guarded.reviewers.users = {}
    guarded.reviewers.rights = frozenset()
    guarded.clock.advance(seconds=29.9)
    assert (await guarded.robot.get("files")).status_code == 200
    assert len(guarded.reviewers.asked) == 2
    guarded.clock.advance(seconds=0.1)
    assert error_of(await guarded.robot.get("files"), 401) == WRONG


async def test_a_right_that_is_taken_away_ends_within_30_seconds(guarded: Guarded) -> None:
    assert (await guarded.robot.get("files")).status_code == 200
    guarded.reviewers.rights = EVERYTHING - {LIST_FILES}
    guarded.clock.advance(seconds=30)
    assert (await guarded.robot.get("files")).status_code == 403
    assert (await guarded.robot.get("models")).status_code == 200


async def test_a_refusal_holds_for_5_seconds(guarded: Guarded) -> None:
    users, guarded.reviewers.users = guarded.reviewers.users, {}
    assert error_of(await guarded.robot.get("files"), 401) == WRONG
    guarded.reviewers.users = users
    guarded.clock.advance(seconds=4.9)
    assert error_of(await guarded.robot.get("files"), 401) == WRONG
    assert len(guarded.reviewers.asked) == 1
    guarded.clock.advance(seconds=0.1)
    assert (await guarded.robot.get("files")).status_code == 200


async def test_a_refused_right_is_not_asked_for_again_within_5_seconds(guarded: Guarded) -> None:
    guarded.reviewers.rights = frozenset()
    for _ in range(3):
        assert (await guarded.robot.get("files")).status_code == 403
    assert guarded.reviewers.count(SUBJECT_ACCESS_REVIEW) == 1


async def test_a_clock_that_is_set_back_makes_no_answer_last(guarded: Guarded) -> None:
    assert (await guarded.robot.get("files")).status_code == 200
    guarded.reviewers.users = {}
    guarded.clock.advance(hours=-1)
    assert error_of(await guarded.robot.get("files"), 401) == WRONG


async def test_the_token_itself_is_kept_nowhere() -> None:
    accounts = ServiceAccounts(Reviewers(), make_settings(Path("/")), Clock())
    caller = await accounts.find_caller(TOKEN)
    assert caller is not None
    await caller.authorise(LIST_FILES)
    assert await accounts.find_caller(TOKEN + "x") is None
    kept = [kept for answers in (accounts._known, accounts._allowed) for kept in vars(answers).values()]
    assert "robot" in str(kept)
    assert TOKEN not in str(kept)


async def test_as_many_answers_are_remembered_as_the_setting_says_and_the_oldest_goes_first(tmp_path: Path) -> None:
    async with open_guarded(tmp_path, max_cached_reviews=2) as guarded:
        tokens = [f"{TOKEN}{n}" for n in range(3)]
        guarded.reviewers.users = dict.fromkeys(tokens, USER)
        for token in [*tokens, tokens[2], tokens[1], tokens[0]]:
            async with guarded.with_key(token) as client:
                assert (await client.get("files")).status_code == 200
        assert guarded.reviewers.count(TOKEN_REVIEW) == 4


async def test_tokens_that_somebody_makes_up_push_no_good_answer_out(tmp_path: Path) -> None:
    async with open_guarded(tmp_path, max_cached_reviews=1) as guarded:
        assert (await guarded.robot.get("files")).status_code == 200
        for n in range(5):
            async with guarded.with_key(f"{TOKEN}{n}") as client:
                assert error_of(await client.get("files"), 401) == WRONG
        assert (await guarded.robot.get("files")).status_code == 200
        assert [spec for kind, spec in guarded.reviewers.asked if spec.get("token") == TOKEN] == [{"token": TOKEN}]


async def test_equal_questions_at_the_same_time_are_one(guarded: Guarded) -> None:
    answers = await asyncio.gather(*(guarded.robot.get("files") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(guarded.reviewers.asked) == 2


async def test_whoever_leaves_takes_no_answer_from_the_others(guarded: Guarded) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        asked.set()
        await may_answer.wait()

    guarded.reviewers.before("TokenReview", wait)
    first = asyncio.create_task(guarded.robot.get("files"))
    await asked.wait()
    second = asyncio.create_task(guarded.robot.get("files"))
    first.cancel()
    await asyncio.wait([first])
    may_answer.set()
    assert (await second).status_code == 200
    assert guarded.reviewers.count(TOKEN_REVIEW) == 1


# --- when kubernetes does not answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("review", ["TokenReview", "SubjectAccessReview"])
@pytest.mark.parametrize("error", [Unavailable("secret"), Refused("secret")], ids=["down", "not allowed to ask"])
async def test_an_api_server_that_does_not_answer_is_no_verdict_on_anybody(
    guarded: Guarded, review: str, error: Exception
) -> None:
    guarded.reviewers.before(review, failing(error))
    answer = await guarded.robot.get("files")
    assert error_of(answer, 503) == (None, None)
    assert "secret" not in answer.text
    assert (await guarded.robot.get("files")).status_code == 200


async def test_while_the_api_server_is_down_what_was_answered_holds_and_keys_work(guarded: Guarded) -> None:
    assert (await guarded.robot.get("files")).status_code == 200
    guarded.reviewers.before("TokenReview", failing(Unavailable("down")))
    guarded.clock.advance(seconds=29)
    assert (await guarded.robot.get("files")).status_code == 200
    assert (await guarded.person.get("files")).status_code == 200


# --- on a real Kubernetes ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_on_kubernetes(kubeconfig: Path, namespace: str, folder: Path) -> AsyncIterator[tuple[Any, Clock]]:
    """Start the API in this process, as the cluster's administrator."""
    loaded = make_settings(folder).model_copy(update={"cluster": f"kubernetes://{namespace}"})
    loaded.api_keys_file.write_text(render_keys({}))
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(kubeconfig))
        async with (
            open_cluster(loaded.cluster) as cluster,
            open_bucket(loaded.bucket) as bucket,
            filled_lists(cluster, loaded) as lists,
        ):
            yield build_app(Context(lists, bucket, loaded, now=clock), Keyring(loaded.api_keys_file)), clock


async def until(client: httpx2.AsyncClient, path: str, status: int, clock: Clock) -> None:
    """Ask until an answer has that status; each time all that was remembered is too old."""
    async with asyncio.timeout(30):
        while (await client.get(path)).status_code != status:
            clock.advance(seconds=30)


def grant(kubernetes: "Kubernetes", namespace: str, account: str, *rights: str) -> None:
    """Make a Role for each right, `verbs on resources`, and bind it to an account."""
    for n, right in enumerate(rights):
        verbs, _, resource = right.partition(" on ")
        name, here = f"{account}-{n}", f"--namespace={namespace}"
        kubernetes.kubectl("create", "role", name, here, f"--verb={verbs}", f"--resource={resource}.nightshift.dev")
        bound = f"--serviceaccount={namespace}:{account}"
        kubernetes.kubectl("create", "rolebinding", name, here, f"--role={name}", bound)


@pytest.mark.cluster
async def test_a_real_account_may_do_what_its_roles_say_and_nothing_once_it_is_gone(
    kubernetes: "Kubernetes", namespace: str, tmp_path: Path
) -> None:
    here = f"--namespace={namespace}"
    kubernetes.kubectl("create", "serviceaccount", "robot", here)
    token = kubernetes.kubectl("create", "token", "robot", here).strip()
    async with (
        open_on_kubernetes(kubernetes.kubeconfig, namespace, tmp_path) as (app, clock),
        client_of(app, token) as robot,
        client_of(app, f"{token[:-8]}AAAAAAAA") as forger,
    ):
        assert error_of(await forger.get("files"), 401) == WRONG
        assert error_of(await robot.get("files"), 403) == (None, None)

        grant(kubernetes, namespace, "robot", "get,list,create on storedfiles", "get,create on batchjobs")
        await until(robot, "files", 200, clock)
        await until(robot, "batches/x", 404, clock)
        form = {"file": ("in.jsonl", jsonl(a_line()))}
        uploaded = json_of(await robot.post("files", data={"purpose": "batch"}, files=form), 200)
        body = {"input_file_id": uploaded["id"], "endpoint": CHAT, "completion_window": "24h"}
        batch = json_of(await robot.post("batches", json=body), 200)
        assert json_of(await robot.get(f"batches/{batch['id']}"), 200)["status"] == "validating"
        for method, path in (
            ("GET", "batches"),
            ("POST", f"batches/{batch['id']}/cancel"),
            ("DELETE", f"files/{uploaded['id']}"),
            ("GET", "models"),
        ):
            assert error_of(await robot.request(method, path), 403) == (None, None)

        kubernetes.kubectl("delete", "serviceaccount", "robot", here)
        await until(robot, "files", 401, clock)


@pytest.mark.cluster
async def test_a_real_account_of_a_namespace_that_is_not_served_is_refused(
    kubernetes: "Kubernetes", namespace: str, tmp_path: Path
) -> None:
    token = kubernetes.kubectl("create", "token", "default", "--namespace=default").strip()
    async with (
        open_on_kubernetes(kubernetes.kubeconfig, namespace, tmp_path) as (app, _),
        client_of(app, token) as client,
    ):
        answer = await client.get("files")
        assert error_of(answer, 403) == (None, None)
        assert "'default' is not served" in answer.text
