"""The guide's kubectl lines, as printed but for the names that it gives its own products."""

import subprocess
import urllib.request

from tests.cluster.release import KEY, SERVICE_MODEL, Release
from tests.e2e.installation import chat_lines, wait_until


def test_the_guide_s_port_forward_works_as_printed(release: Release) -> None:
    command = [*release.tool("kubectl"), "port-forward", "svc/nightshift", "8080:443"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forwarding:
        try:
            assert forwarding.stdout
            assert "8080" in forwarding.stdout.readline()
            asked = urllib.request.Request("http://localhost:8080/openai/v1/models")
            asked.add_header("Authorization", f"Bearer {KEY}")
            with urllib.request.urlopen(asked) as response:
                assert SERVICE_MODEL in response.read().decode()
        finally:
            forwarding.kill()


def test_the_guide_s_search_finds_the_job(release: Release) -> None:
    batch = release.submit(chat_lines(["slow:5 find me"], SERVICE_MODEL)[0])
    release.running_pod(batch.id)
    line = f"{' '.join([*release.tool('kubectl'), 'get', 'jobs'])} | grep batch-processor"
    assert "batch-processor" in subprocess.run(line, shell=True, check=True, capture_output=True, text=True).stdout
    assert release.wait(batch.id).status == "completed"
    wait_until(lambda: not release.pods(batch.id), "the pods to go", 60)
