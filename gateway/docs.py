"""Documentation that follows from the code: topics, settings, commands, configuration, metrics. `make docs` writes it, a test checks it."""

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import typer
import yaml
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from gateway.circuit_owed import OWED_CATALOGUE, OwedMetered
from gateway.cli import command_line
from gateway.flow_metrics import FLOW_CATALOGUE, FlowMetered
from gateway.metrics import CATALOGUE, Metered
from gateway.partner_metrics import PARTNER_CATALOGUE, PartnerMetered
from gateway.settings import EXAMPLES, PREFIX, SECRETS, Settings
from schemas.config import Configuration
from schemas.topics import TOPICS
from schemas.topology import iso_duration

HEAD = "<!-- generated from the code by `make docs`; do not edit -->\n\n"
INTERNAL = {"DERMS_INCARNATION", "DERMS_KAFKA__EMBEDDED", "DERMS_CLICKHOUSE__PATH", "DERMS_ATTRIBUTION"}


def topics_page() -> str:
    """The table of topics."""
    lines = ["# Topics\n", "Values are Avro in single-object encoding; the schemas are in `schemas/avsc/`. Keys are UTF-8 strings.\n"]
    lines += [
        "Record timestamps are the broker's (`message.timestamp.type=LogAppendTime`): what was measured when is in the values, and by when "
        "the broker appended it a reading is judged ([the metering engine](metering.md)).\n"
    ]
    lines += ["| topic | key | values | partitions | kept |", "| --- | --- | --- | --- | --- |"]
    for topic in TOPICS:
        kept = "for ever" if topic.retention is None else f"{topic.retention.days} days"
        kept = f"last value of a key, {kept}" if topic.compacted else kept
        values = ", ".join(f"`{record.__name__}`" for record in topic.records)
        lines.append(f"| `{topic.name}` | {topic.key} | {values} | {topic.partitions} | {kept} |")
    return HEAD + "\n".join(lines) + "\n"


def _settings(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any, str]]:
    for name, field in model.model_fields.items():
        full = f"{prefix}{name.upper()}"
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from _settings(type(default), f"{full}__")
        elif full not in INTERNAL:
            yield full, default, EXAMPLES.get(full, "")


def settings_page() -> str:
    """Every setting with its default."""
    lines = ["# Settings\n", "Environment variables. A secret may also come from a file named in the variable with `_FILE` behind it.\n"]
    lines += ["| setting | default | example |", "| --- | --- | --- |"]
    for name, default, example in _settings(Settings, PREFIX):
        default = iso_duration(default) if isinstance(default, timedelta) else default
        shown = "" if default in (None, "", PydanticUndefined) or isinstance(default, SecretStr) else f"`{default}`"
        secret = " (secret)" if name.removeprefix(PREFIX) in SECRETS else ""
        lines.append(f"| `{name}`{secret} | {shown} | {f'`{example}`' if example and ' ' not in example else example} |")
    return HEAD + "\n".join(lines) + "\n"


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The commands below a group (typer brings its own click, so they are known by what they have)."""
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield path, command
        return
    for name in sorted(subcommands):
        yield from _commands(subcommands[name], f"{path} {name}")


def commands_page() -> str:
    """Every command with its arguments and options."""
    lines = ["# Commands\n", "Exit code 0: done; 1: failed, with one sentence of cause and one of cure; 2: wrong usage.\n"]
    for path, command in _commands(typer.main.get_command(command_line()), "derms"):
        lines.append(f"## `{path}`\n")
        lines.append(f"{(command.help or '').strip()}\n")
        rows = []
        for parameter in command.params:
            if parameter.name == "help":
                continue
            names = ", ".join(parameter.opts) if parameter.param_type_name == "option" else parameter.name.upper()
            rows.append(f"- `{names}`{' (required)' if parameter.required else ''}: {getattr(parameter, 'help', None) or ''}".rstrip(": "))
        lines += [*rows, ""] if rows else []
    return HEAD + "\n".join(lines).rstrip() + "\n"


def configuration_page() -> str:
    """Every field of the configuration file with its default."""
    lines = ["# Configuration file\n", "YAML, checked as a whole before anything is applied. Durations are ISO 8601 (`PT2M`).\n"]
    for kind, field in Configuration.model_fields.items():
        model = _item(field.annotation)
        lines += [f"## `{kind}`\n", f"{(model.__doc__ or '').strip().splitlines()[0]}\n", "| field | default |", "| --- | --- |"]
        plain = model.model_construct().model_dump(mode="json", warnings=False)
        for name, part in model.model_fields.items():
            shown = "required" if part.is_required() else f"`{plain.get(name)}`"
            lines.append(f"| `{name}` | {shown} |")
        lines.append("")
    return HEAD + "\n".join(lines).rstrip() + "\n"


def _item(annotation: Any) -> type[BaseModel]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = annotation.__args__[0]
    assert isinstance(found, type) and issubclass(found, BaseModel)  # noqa: S101, PT018 - Configuration holds tuples of items
    return found


FLOW_WORDS = """Every worker of the telemetry flow (`worker` is its number in a cluster) says every few seconds, on
`derms.flow-reports`, what it has counted since it was started, how long its stages took and how far it is; `derms
status --partitions` and `/api/v1/status` show the same. What it counts: `readings` by outcome (`taken`, or why not),
`messages` that are `unreadable`, `rows` written of assets and `revisions` among them, `group_rows`, readings
`repeated`, `conflicts` among these, `late` ones, `strays` (assets on a second partition), `behind_groups` (rows of
assets that came when their groups' rows were done), `dead_letters`. Its stages: `poll`, `decode`, `aggregate`,
`groups`, `write` (until the broker has acknowledged), `snapshot`; `decode` and `aggregate` may run in several threads,
whose seconds add up. Counters begin at 0 when a worker is started again.
`derms_flow_watermark_delay_seconds` goes on growing when nobody works. Dispatch reports, too: that it runs, and how the
partners' queues stand.
"""
ALERT_WORDS = """`deploy/prometheus/derms.rules.yml` is a rules file for Prometheus, made of the metrics above. What each alert means and
what to do first: [when an alert fires](alerts.md).
"""
RULES = Path(__file__).parents[1] / "deploy" / "prometheus" / "derms.rules.yml"


def metrics_page() -> str:
    """Every metric with its labels, and every alert that is made of them."""
    lines = ["# Metrics\n", "`/metrics` of the operations listener, for Prometheus. Counters' names end in `_total` there.\n"]
    head = ["| metric | kind | labels | what it says |", "| --- | --- | --- | --- |"]
    lines += [
        *head,
        *map(_metric, CATALOGUE),
        *map(_metric, PARTNER_CATALOGUE),
        *map(_metric, OWED_CATALOGUE),
        "\n## Dataflows\n",
        FLOW_WORDS,
        *head,
        *map(_metric, FLOW_CATALOGUE),
        "\n## Alerts\n",
        ALERT_WORDS,
        "| alert | severity | fires when | for |",
        "| --- | --- | --- | --- |",
        *map(_alert, alerts(RULES)),
    ]
    return HEAD + "\n".join(lines) + "\n"


def alerts(path: Path) -> list[dict[str, Any]]:
    """The alerts of a rules file for Prometheus, in its order."""
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def _alert(rule: dict[str, Any]) -> str:
    link = rule["annotations"]["runbook"].removeprefix("docs/")
    condition = rule["expr"].replace("|", "\\|")  # which would end the cell
    return f"| [{rule['alert']}]({link}) | {rule['labels']['severity']} | `{condition}` | {rule['for']} |"


def _metric(metered: Metered | PartnerMetered | OwedMetered | FlowMetered) -> str:
    labels = ", ".join(f"`{label}`" for label in metered.labels)
    return f"| `{metered.name}` | {'counter' if metered.counter else 'gauge'} | {labels} | {metered.words} |"


PAGES = {
    "topics.md": topics_page,
    "settings.md": settings_page,
    "commands.md": commands_page,
    "configuration.md": configuration_page,
    "metrics.md": metrics_page,
}


def write(directory: Path) -> None:
    """Write all generated pages into `directory`."""
    directory.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (directory / name).write_text(page())


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
