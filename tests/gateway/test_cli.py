"""The command line's promises: exit codes, one sentence of cause and one of cure, help for everything."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from gateway.cli import FAMILIES, command_line, words_of
from sinks.errors import Misconfigured, Refused, Unavailable
from tests.integration.running import CLEAN


def derms(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway.cli", *arguments]
    return subprocess.run(command, env=CLEAN | environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["config", "validate", "no-such-file.yaml"], {}, "no-such-file.yaml: No such file or directory."),
        (["partner", "list"], {}, "DERMS_OPERATOR_TOKEN_FILE: is not set and no running instance was found. Start one with derms up"),
        (["status", "--data", "nowhere"], {}, "--data: no running instance found."),
        (["status"], {"DERMS_OPERATOR_TOKEN_FILE": "no-such-file"}, "DERMS_OPERATOR_TOKEN_FILE: No such file or directory"),
        (["topics", "create"], {"DERMS_KAFKA__BOOTSTRP": "x"}, "DERMS_KAFKA__BOOTSTRP: "),
        (["run", "telemetry"], {"DERMS_GATEWAY__OSCP_PORT": "x"}, "DERMS_GATEWAY__OSCP_PORT: "),
        (["gateway"], {}, "DERMS_OPERATORS_FILE: is not set."),
        (["telemetry", "replay", "no-such.csv"], {"DERMS_KAFKA__BOOTSTRAP": "127.0.0.1:1"}, "no-such.csv: No such file or directory."),
        (["sql", "SELECT 1"], {}, "DERMS_CLICKHOUSE__URL: "),
    ],
)
def test_a_failure_is_a_sentence_of_cause_and_one_of_cure(arguments: list[str], environment: dict[str, str], words: str) -> None:
    ended = derms(*arguments, **environment)
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.startswith("error: ")
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["nonsense"], ["run", "nonsense"], ["up", "--data", "x", "--origin", "yesterday"], ["adjust"]])
def test_wrong_usage_exits_with_two(arguments: list[str]) -> None:
    assert derms(*arguments).returncode == 2


def test_a_right_file_is_right(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("scopes: [{id: mg-1}]\n")
    ended = derms("config", "validate", str(tmp_path / "site.yaml"))
    assert (ended.returncode, ended.stdout) == (0, "site.yaml is right: 0 circuits, 1 scopes, 0 assets, 0 partners, 0 groups\n")


def test_the_operators_token_is_alone_on_the_last_line(tmp_path: Path) -> None:
    ended = derms("operator", "add", "ann", "--role", "viewer", "--file", str(tmp_path / "operators.json"))
    assert ended.returncode == 0, ended.stderr
    token = ended.stdout.splitlines()[-1]
    assert ended.stdout == token + "\n"
    assert token not in (tmp_path / "operators.json").read_text()


@pytest.mark.parametrize("error", [Misconfigured("X", "is wrong"), Refused(409, "no"), Unavailable("the broker is away")])
def test_every_kind_of_failure_has_a_cause_and_a_cure(error: Any) -> None:
    assert len([part for part in words_of(error).split(". ") if part]) == 2


def test_every_command_has_help() -> None:
    def walk(command: Any, path: str) -> None:
        assert command.help, path
        for name, below in getattr(command, "commands", {}).items():
            walk(below, f"{path} {name}")

    walk(typer.main.get_command(command_line()), "derms")


def test_a_command_loads_only_its_own_family_and_help_has_all() -> None:
    whole = typer.main.get_command(command_line()).commands  # type: ignore[attr-defined]
    assert set(whole) == {name for names in FAMILIES.values() for name in names}
    for family, names in FAMILIES.items():
        for name in names:
            only = typer.main.get_command(command_line(name)).commands  # type: ignore[attr-defined]
            assert set(only) == set(names), family
            assert only[name].get_short_help_str() == whole[name].get_short_help_str()
    assert set(typer.main.get_command(command_line("unknown")).commands) == set(whole)  # type: ignore[attr-defined]


def test_a_command_does_not_load_what_others_need() -> None:
    program = "import sys; from gateway.cli import command_line; command_line('partner'); print(sorted({*sys.argv} & {*sys.modules}))"
    others = ["fastapi", "clickhouse_connect", "confluent_kafka", "gateway.commands.asking", "gateway.commands.history"]
    done = subprocess.run([sys.executable, "-c", program, *others], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stdout + done.stderr
