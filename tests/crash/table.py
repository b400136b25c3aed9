"""Every external effect of every role, and the stories that reach it: the committed list.

A recording of all stories must find exactly these (`test_failpoints`): whoever adds an effect to a role adds it here,
and a story that reaches it if none does, and with that it is killed at. The runner of `nightshift local` is in it too;
on Kubernetes its part is the cluster's. Left out are the reviews of tokens, which store nothing.
"""

from tests.crash import stories
from tests.crash.failpoints import Moment

SETTINGS = {
    "plain": {"scratch_retention_s": "0", "uri_prefixes": f"default={stories.URI_FOLDER}"},
    "late": {"scratch_retention_s": "0", "completion_window_s": "2", "clock_skew_s": "0"},
    "impatient": {"scratch_retention_s": "0", "grace_s": "1", "lost_pod_s": "0"},
    "telling": {"scratch_retention_s": "0", "webhook_allowed_cidrs": "127.0.0.0/8", "webhook_retry_s": "1"},
    "sweeping": {"scratch_retention_s": "0", "batch_retention_s": "0", "sweep_interval_s": "0.2"},
}
"""The installations that stories are told to, by what the roles are told."""
ELSEWHERE: dict[stories.Story, str] = {
    stories.expired: "late",
    stories.lost: "impatient",
    stories.swept: "sweeping",
    stories.told: "telling",
}
"""Stories of another installation than the plain one."""
CONTINUED = frozenset({stories.rerun})
"""Stories that say themselves from where on somebody may be killed."""
FENCED = frozenset({stories.vanished, stories.lost})
"""Stories in which a new writer does not wait for the old one's end."""

EFFECTS: dict[str, tuple[stories.Story, ...]] = {
    "api bucket.delete file": (
        stories.taken_back,
        stories.deleted,
    ),
    "api bucket.delete upload part": (stories.given_up_by_parts,),
    "api bucket.put file": (
        stories.refused,
        stories.uploaded_by_parts,
    ),
    "api bucket.put idempotency key": (stories.refused,),
    "api bucket.put owner": (stories.restarted,),
    "api bucket.put upload outcome": (
        stories.given_up_by_parts,
        stories.uploaded_by_parts,
    ),
    "api bucket.put upload part": (stories.given_up_by_parts,),
    "api bucket.put upload session": (stories.given_up_by_parts,),
    "api cluster.create BatchJob": (
        stories.refused,
        stories.rerun,
    ),
    "api cluster.create Lease nightshift-api": (stories.restarted,),
    "api cluster.create StoredFile": (
        stories.refused,
        stories.uploaded_by_parts,
    ),
    "api cluster.delete StoredFile": (stories.deleted,),
    "api cluster.patch BatchJob cancel": (stories.cancelled,),
    "api cluster.patch BatchJob resume": (stories.suspended,),
    "api cluster.patch BatchJob suspend": (stories.suspended,),
    "api cluster.patch Lease nightshift-api": (stories.refused,),
    "api cluster.patch_status StoredFile Ready": (
        stories.refused,
        stories.uploaded_by_parts,
    ),
    "inspect bucket.put rest": (stories.rerun,),
    "inspect bucket.put reused": (stories.rerun,),
    "inspect bucket.put verdict": (
        stories.inspected,
        stories.rerun,
    ),
    "operator bucket.delete file": (stories.swept,),
    "operator bucket.delete idempotency key": (stories.swept,),
    "operator bucket.delete log": (
        stories.completed,
        stories.swept,
    ),
    "operator bucket.delete manifest": (stories.swept,),
    "operator bucket.delete rest": (stories.swept,),
    "operator bucket.delete reused": (
        stories.rerun,
        stories.swept,
    ),
    "operator bucket.delete progress": (
        stories.completed,
        stories.swept,
    ),
    "operator bucket.delete upload outcome": (stories.swept,),
    "operator bucket.delete upload part": (stories.swept,),
    "operator bucket.delete upload session": (stories.swept,),
    "operator bucket.delete verdict": (stories.swept,),
    "operator cluster.create Job inspect": (
        stories.inspected,
        stories.rerun,
    ),
    "operator cluster.create Job run": (stories.completed,),
    "operator cluster.create Job seal": (
        stories.completed,
        stories.cancelled,
    ),
    "operator cluster.create Lease nightshift-operator": (stories.restarted,),
    "operator cluster.create StoredFile error": (stories.completed,),
    "operator cluster.create StoredFile output": (
        stories.completed,
        stories.rerun,
    ),
    "operator cluster.delete BatchJob": (stories.swept,),
    "operator cluster.delete Job inspect": (stories.inspected,),
    "operator cluster.delete Job run": (
        stories.completed,
        stories.cancelled,
    ),
    "operator cluster.delete Job seal": (stories.completed,),
    "operator cluster.delete Pod": (stories.lost,),
    "operator cluster.delete StoredFile": (
        stories.succeeded,
        stories.swept,
    ),
    "operator cluster.patch Lease nightshift-operator": (stories.restarted,),
    "operator cluster.patch Lease nightshift-operator given up": (stories.restarted,),
    "operator cluster.patch_status BatchJob attempt": (stories.vanished,),
    "operator cluster.patch_status BatchJob conditions": (stories.completed,),
    "operator cluster.patch_status BatchJob progress": (stories.completed,),
    "operator cluster.patch_status BatchJob sealing expired": (stories.expired,),
    "operator cluster.patch_status BatchJob sealing failed": (stories.failed,),
    "operator cluster.patch_status BatchJob settled": (
        stories.refused,
        stories.completed,
    ),
    "operator cluster.patch_status BatchJob webhooks": (stories.told,),
    "operator cluster.patch_status BatchJob to CANCELLED": (stories.cancelled,),
    "operator cluster.patch_status BatchJob to CANCELLING": (stories.cancelled,),
    "operator cluster.patch_status BatchJob to COMPLETED": (
        stories.completed,
        stories.rerun,
    ),
    "operator cluster.patch_status BatchJob to EXPIRED": (stories.expired,),
    "operator cluster.patch_status BatchJob to FAILED": (
        stories.refused,
        stories.failed,
    ),
    "operator cluster.patch_status BatchJob to FINALIZING": (stories.completed,),
    "operator cluster.patch_status BatchJob to IN_PROGRESS": (
        stories.completed,
        stories.rerun,
    ),
    "operator cluster.patch_status BatchJob to VALIDATING": (stories.inspected,),
    "operator cluster.patch_status StoredFile Ready": (
        stories.completed,
        stories.cancelled,
    ),
    "operator cluster.patch_status StoredFile Writing": (stories.completed,),
    "operator cluster.patch_status StoredFile shown": (
        stories.completed,
        stories.rerun,
    ),
    "operator cluster.record_event Cancelled": (stories.cancelled,),
    "operator cluster.record_event Cancelling": (stories.cancelled,),
    "operator cluster.record_event Completed": (stories.completed,),
    "operator cluster.record_event Expired": (stories.expired,),
    "operator cluster.record_event Expiring": (stories.expired,),
    "operator cluster.record_event Failed": (stories.refused,),
    "operator cluster.record_event Failing": (stories.failed,),
    "operator cluster.record_event Finalizing": (stories.completed,),
    "operator cluster.record_event InProgress": (stories.completed,),
    "operator cluster.record_event Retrying": (stories.vanished,),
    "operator cluster.record_event WebhookGivenUp": (stories.told,),
    "operator webhook.post": (stories.told,),
    "run bucket.put progress": (stories.completed,),
    "run bucket.put record claim": (stories.completed,),
    "run bucket.put record end": (stories.completed,),
    "run bucket.put record part": (
        stories.completed,
        stories.cancelled,
        stories.rerun,
    ),
    "run model.send": (
        stories.completed,
        stories.rerun,
    ),
    "runner cluster.create Lease nightshift-runner": (stories.restarted,),
    "runner cluster.create Pod": (stories.completed,),
    "runner cluster.delete Job seal": (stories.outlived,),
    "runner cluster.delete Pod": (
        stories.completed,
        stories.cancelled,
    ),
    "runner cluster.patch Lease nightshift-runner": (stories.restarted,),
    "runner cluster.patch Lease nightshift-runner given up": (stories.restarted,),
    "runner cluster.patch_status Job": (stories.completed,),
    "runner cluster.patch_status Pod": (stories.completed,),
    "seal bucket.put error file": (
        stories.completed,
        stories.cancelled,
    ),
    "seal bucket.put manifest": (
        stories.completed,
        stories.cancelled,
        stories.rerun,
    ),
    "seal bucket.put output file": (
        stories.completed,
        stories.cancelled,
        stories.rerun,
    ),
    "seal bucket.put record close": (
        stories.completed,
        stories.cancelled,
    ),
}
STREAMED = frozenset(
    {
        "api bucket.put file",
        "api bucket.put upload part",
        "inspect bucket.put rest",
        "inspect bucket.put reused",
        "run model.send",
        "seal bucket.put error file",
        "seal bucket.put output file",
    }
)
"""Those that take a while: they are killed at in their middle too."""
STORIES = tuple(dict.fromkeys(story for told in EFFECTS.values() for story in told))


def moments_of(effect: str) -> tuple[Moment, ...]:
    """Where an effect can be killed at."""
    return tuple(moment for moment in Moment if moment is not Moment.DURING or effect in STREAMED)


def rig_of(story: stories.Story) -> str:
    """Which installation a story is told to."""
    return ELSEWHERE.get(story, "plain")
