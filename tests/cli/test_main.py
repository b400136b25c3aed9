"""The command line: every verb can be found, and what is wrong with an option is told in a sentence."""

import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from nightshift_cli.main import cli, main

LOCAL = ("local", "--model", "m=http://127.0.0.1:9")


@pytest.mark.parametrize("verb", cli.commands)
def test_every_verb_and_every_option_explains_itself(verb: str) -> None:
    shown = CliRunner().invoke(cli, [verb, "--help"])
    assert shown.exit_code == 0
    options = [p for p in cli.commands[verb].params if isinstance(p, click.Option)]
    assert options
    assert all(option.opts[0] in shown.output for option in options)
    assert all(option.help for option in options)


def test_the_version_is_that_of_the_distribution() -> None:
    shown = CliRunner().invoke(cli, ["--version"])
    assert "version 0." in shown.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("local",), "Missing option '--model'"),
        (("local", "--model", "gpt"), "nightshift: Expected --model NAME=URL with an http or https URL, got 'gpt'."),
        ((*LOCAL, "--model-api-key", "m=NO_SUCH_VARIABLE"), "nightshift: Expected --model-api-key NAME=VARIABLE"),
        ((*LOCAL, "--api-key", "sk=No Namespace"), "nightshift: Expected --api-key KEY=NAMESPACE"),
        ((*LOCAL, "--concurrency", "0"), "0 is not in the range x>=1"),
        ((*LOCAL, "--port", "http"), "'http' is not a valid integer"),
        (("submit", "/no/such/file"), "File '/no/such/file' does not exist"),
        (("submit", __file__, "--metadata", "team"), "nightshift: Expected --metadata KEY=VALUE, got 'team'."),
        (("submit", __file__, "--output", "/"), "File '/' is a directory"),
        (("submit", __file__), "nightshift: Set OPENAI_BASE_URL and OPENAI_API_KEY"),
        (("list", "--status", "done"), "'done' is not one of 'validating'"),
        (("list", "-o", "xml"), "'xml' is not one of 'table'"),
        (("get",), "Missing argument 'BATCH...'"),
        (("list",), "nightshift: Set OPENAI_BASE_URL and OPENAI_API_KEY"),
        (("nope",), "No such command 'nope'"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence_with_exit_code_2_before_anything_is_done(
    arguments: tuple[str, ...],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = ("--data-dir", str(tmp_path / "data")) if arguments[0] == "local" else ()
    monkeypatch.setattr(sys, "argv", ["nightshift", *arguments, *place])
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "NIGHTSHIFT_BASE_URL", "NIGHTSHIFT_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert sentence in told.err
    assert told.out == ""
    assert list(tmp_path.iterdir()) == []


def test_an_endpoint_that_cannot_be_one_is_told_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["nightshift", *LOCAL, "--data-dir", str(tmp_path / "data")])
    monkeypatch.setenv("NIGHTSHIFT_ENDPOINTS", "/v1/completions,rerank")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "NIGHTSHIFT_ENDPOINTS.1: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
