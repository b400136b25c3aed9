"""ServiceAccount tokens as API keys: whose is a token, and may they? Kubernetes answers both (design 8).

A ServiceAccount acts in its own namespace, and RBAC decides for the API as it does for kubectl. Tokens are known by
their SHA-256 only. Answers are remembered for a while, which is how long a revoked right still holds.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Generic, Literal, TypeVar

import structlog

from nightshift_api.access import Access
from nightshift_api.caller import Caller
from nightshift_api.context import Context
from nightshift_api.quota import Quota
from nightshift_api.settings import Settings
from nightshift_crds.cluster import is_kubernetes, parse_namespaces
from nightshift_crds.cluster.port import SUBJECT_ACCESS_REVIEW, TOKEN_REVIEW, Cluster, Kind, Manifest
from nightshift_crds.errors import Refused, Rejected, Unavailable
from nightshift_crds.keys import hash_key
from nightshift_crds.models import GROUP

_log = structlog.get_logger()
_V = TypeVar("_V")
ACCEPTED_LIFE = timedelta(seconds=30)
REFUSED_LIFE = timedelta(seconds=5)
_MAX_TOKEN_CHARS = 16_384
"""Tokens of ServiceAccounts have one or two thousand; what is longer is not sent on."""
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_USERNAME = re.compile(r"system:serviceaccount:([a-z0-9-]+):([a-z0-9.-]+)")


def is_token(key: str) -> bool:
    """Tell whether a key looks like a JWT, so that it may be a ServiceAccount's. Pure."""
    return len(key) <= _MAX_TOKEN_CHARS and _JWT.fullmatch(key) is not None


@dataclass(frozen=True)
class Account:
    """A ServiceAccount, as a TokenReview tells of it.

    Attributes:
        user: all that was told, for the questions that follow.
    """

    namespace: str
    name: str
    user: Manifest

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def parse_account(status: Manifest) -> Account | None:
    """Read the status of a TokenReview; None unless it vouches for a ServiceAccount. Pure."""
    user = status.get("user", {})
    found = _USERNAME.fullmatch(user.get("username", ""))
    return Account(found[1], found[2], user) if found and status.get("authenticated") is True else None


def build_question(account: Account, access: Access) -> Manifest:
    """Build the spec of a SubjectAccessReview: may this account do that in its namespace? Pure."""
    about = {key: account.user[key] for key in ("uid", "groups", "extra") if key in account.user}
    wanted = {"namespace": account.namespace, "group": GROUP, "resource": access.resource, "verb": access.verb}
    return about | {"user": account.user["username"], "resourceAttributes": wanted}


class ServiceAccounts:
    """Those of the namespaces that the installation serves."""

    def __init__(self, cluster: Cluster, settings: Settings, now: Callable[[], datetime]) -> None:
        self._cluster = cluster
        self._namespaces = parse_namespaces(settings.cluster)
        self._now = now
        self._strangers = Quota(settings.max_reviews_per_s, 1)
        self._known: Answers[Account] = Answers(settings.max_cached_reviews, now)
        self._allowed: Answers[Literal[True]] = Answers(settings.max_cached_reviews, now)

    @classmethod
    def of(cls, context: Context) -> "ServiceAccounts | None":
        """Take the settings' word for whether tokens are accepted at all; None if not."""
        settings = context.settings
        if not (settings.service_account_tokens and is_kubernetes(settings.cluster)):
            return None
        return cls(context.cluster, settings, context.now)

    async def find_caller(self, token: str) -> Caller | None:
        """Find whose token this is; None for nobody's.

        Raises:
            Rejected: its namespace is not served.
            Unavailable: Kubernetes does not answer, or is asked about too many tokens.
        """
        if not is_token(token):
            return None
        known_by = hash_key(token)
        account = await self._known.ask(known_by, partial(self._identify, known_by, token))
        if account is None:
            return None
        if self._namespaces and account.namespace not in self._namespaces:
            raise Rejected(f"The namespace '{account.namespace}' is not served here.", status=403)
        return Caller(account.namespace, partial(self._authorise, known_by, account))

    async def _identify(self, known_by: str, token: str) -> Account | None:
        """Ask whose a token is. Those that were somebody's a moment ago are not held up by what others make up."""
        if not self._known.was_accepted(known_by):
            delay_s = self._strangers.take("tokens", self._now().timestamp())
            if delay_s:
                raise Unavailable("too many unknown tokens are sent", delay_s=delay_s)
        return parse_account(await self._review(TOKEN_REVIEW, {"token": token}))

    async def _authorise(self, known_by: str, account: Account, access: Access) -> None:
        if await self._allowed.ask((known_by, access), partial(self._is_allowed, account, access)) is None:
            raise Rejected(f"The ServiceAccount '{account}' may not {access} in its namespace.", status=403)

    async def _is_allowed(self, account: Account, access: Access) -> Literal[True] | None:
        status = await self._review(SUBJECT_ACCESS_REVIEW, build_question(account, access))
        return True if status.get("allowed") is True else None

    async def _review(self, kind: Kind, spec: Manifest) -> Manifest:
        manifest = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {}, "spec": spec}
        try:
            reviewed = await self._cluster.create(kind, manifest)
        except Refused as error:
            _log.error("tokens.not_reviewed", kind=kind.kind)  # the answer to the client does not say what is missing
            raise Unavailable("the API may not have tokens reviewed") from error
        status: Manifest = reviewed.get("status", {})
        return status


@dataclass(frozen=True)
class _Answer(Generic[_V]):
    value: _V | None
    since: datetime

    def is_fresh(self, now: datetime) -> bool:
        """A clock that was set back makes an answer old: it must not hold for longer than it may."""
        life = REFUSED_LIFE if self.value is None else ACCEPTED_LIFE
        return self.since <= now < self.since + life


class Answers(Generic[_V]):
    """What was answered lately, so many at most; None is a refusal.

    Refusals are kept apart, so that whoever makes tokens up pushes no good answer out.
    """

    def __init__(self, max_count: int, now: Callable[[], datetime]) -> None:
        self._max_count = max_count
        self._now = now
        self._accepted: dict[Hashable, _Answer[_V]] = {}
        self._refused: dict[Hashable, _Answer[_V]] = {}
        self._asking: dict[Hashable, asyncio.Task[_V | None]] = {}

    def was_accepted(self, key: Hashable) -> bool:
        """Tell whether the last answer was no refusal, however old it is."""
        return key in self._accepted

    async def ask(self, key: Hashable, question: Callable[[], Awaitable[_V | None]]) -> _V | None:
        """Give what was answered, or ask again if that is too old; equal questions at the same time are one."""
        answer = self._accepted.get(key) or self._refused.get(key)
        if answer and answer.is_fresh(self._now()):
            return answer.value
        if key not in self._asking:
            self._asking[key] = asyncio.create_task(self._ask(key, question))
            self._asking[key].add_done_callback(lambda _: self._asking.pop(key))
        return await asyncio.shield(self._asking[key])  # whoever leaves takes no answer from the others

    async def _ask(self, key: Hashable, question: Callable[[], Awaitable[_V | None]]) -> _V | None:
        since = self._now()
        answer = _Answer(await question(), since)
        for kept in (self._accepted, self._refused):
            kept.pop(key, None)
        kept = self._refused if answer.value is None else self._accepted
        if len(kept) == self._max_count:
            del kept[next(iter(kept))]
        kept[key] = answer
        return answer.value
