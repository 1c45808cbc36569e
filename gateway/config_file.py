"""The configuration file, and bringing it to `derms.config` (contract 3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml
from pydantic import ValidationError

from pipelines.rules.configuration import changes_between, configuration_of
from schemas.config import ConfigChange, Configuration
from schemas.topics import CONFIG
from sinks.errors import Misconfigured
from sinks.kafka import Producer

BY_FILE = "file"


def read_configuration(path: Path) -> Configuration:
    """The configuration in a YAML file. Raises Misconfigured with the file's name, the path of the field and the reason."""
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Misconfigured(path.name, error.strerror or "cannot be read", "name a file that exists") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise Misconfigured(path.name, f"is not YAML{line}", "see the example in the documentation") from None
    return parse_configuration(plain if plain is not None else {}, path.name)


def parse_configuration(plain: object, name: str) -> Configuration:
    """The configuration of plain data. Raises Misconfigured as `read_configuration`."""
    try:
        return Configuration.model_validate(plain)
    except ValidationError as error:
        words = [_words(found["loc"], found["msg"]) for found in error.errors(include_url=False, include_input=False)]
        more = f" (and {len(words) - 3} more)" if len(words) > 3 else ""
        raise Misconfigured(name, "; ".join(words[:3]) + more, "mend it and apply again; nothing was changed") from None


def _words(location: tuple[int | str, ...], message: str) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    text = message.removeprefix("Value error, ").replace("Extra inputs are not permitted", "unknown field")
    return f"{path}: {text}" if path else text


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying a file did: the changes made, and the items it left alone because someone else changed them since."""

    changes: list[ConfigChange]
    kept: list[str]


def plan(
    current: Mapping[str, ConfigChange], wanted: Configuration, *, at: datetime, prune: bool = False, force: bool = False, by: str = BY_FILE
) -> Applied:
    """The changes that bring `current` to `wanted`. Items last changed by someone other than a file stay unless `force`."""
    changes, kept = [], []
    for change in changes_between(current, wanted, prune=prune, by=by, at=at):
        key = f"{change.kind}/{change.id}"
        before = current.get(key)
        if before is not None and before.by != BY_FILE and by == BY_FILE and not force:
            kept.append(key)
        else:
            changes.append(change)
    after = {**current, **{f"{change.kind}/{change.id}": change for change in changes}}
    try:
        configuration_of(after)
    except ValidationError as error:
        # The file is right by itself: it does not go with what is there and stays.
        words = "; ".join(_words(found["loc"], found["msg"]) for found in error.errors(include_url=False, include_input=False)[:3])
        cure = "mend the file, or remove what it does not name with --prune; nothing was changed"
        raise Misconfigured("the configuration", f"with what is there already: {words}", cure) from None
    return Applied(changes, kept)


def publish(changes: list[ConfigChange], producer: Producer) -> None:
    """Append the changes, in order. Blocks until acknowledged; raises Unavailable."""
    for change in changes:
        producer.send(CONFIG, f"{change.kind}/{change.id}", change)
    producer.flush()
