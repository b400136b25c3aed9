"""The contract, statement by statement, by plain HTTP and by the official SDKs, on one machine and on a cluster."""

from typing import TYPE_CHECKING

import pytest

from tests.conformance.clients import SDKS
from tests.conformance.contract import STATEMENTS
from tests.conformance.findings import Findings, clients_of, published
from tests.conformance.statements import BACKENDS, Backend, Statement

if TYPE_CHECKING:
    from tests.conformance.clients import Sdks

ON = {"local": (), "cluster": (pytest.mark.cluster,)}
CASES = [
    pytest.param(
        statement, client, backend, id=f"{statement.place}: {statement.name}-{client}-{backend}", marks=ON[backend]
    )
    for backend in BACKENDS
    for client in ("raw", *SDKS)
    for statement in STATEMENTS
    if backend in statement.backends and client in clients_of(statement)
]


@pytest.mark.timeout(600)  # the first one on a service waits for that, and the first of an SDK for all its scenarios
@pytest.mark.parametrize(("statement", "client", "backend"), CASES)
def test_contract(
    statement: Statement, client: str, backend: Backend, findings: Findings, request: pytest.FixtureRequest
) -> None:
    proof = (statement.place, statement.name, client, backend)
    findings.tried.add(proof)
    sdks: Sdks = request.getfixturevalue(backend)
    if client == "raw":
        statement.check(sdks.target)
    else:
        problems = {name: sdks.problem(client, name) for name in statement.scenarios if name in SDKS[client]}
        assert not any(problems.values()), "\n".join(problem for problem in problems.values() if problem)
    findings.shown.add(proof)


@pytest.mark.parametrize("backend", [pytest.param(backend, marks=ON[backend]) for backend in BACKENDS])
def test_the_page_claims_what_this_run_has_shown(
    backend: Backend, findings: Findings, request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("--publish", default=False):
        pytest.skip("the page is being written")
    tried = {proof for proof in findings.tried if proof[3] == backend}
    assert published() & tried == findings.shown & tried
