"""What the supervisor of `derms up` wrote down about its processes, for the gateway to show."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError


class ProcessView(BaseModel):
    """One process: `restarts` counts its deaths, `last_words` is the end of its log where it is not running."""

    pid: int | None = None
    running: bool
    ready: bool
    restarts: int = 0
    last_words: str = ""

    @property
    def state(self) -> str:
        """`ok`, or what keeps it from doing its work."""
        return "is not running" if not self.running else "ok" if self.ready else "is starting"


def processes_of(path: Path) -> Mapping[str, Any]:
    """The processes in the supervisor's file, by name, as plain `ProcessView`s; nothing where the file is absent or torn."""
    try:
        rows = json.loads(path.read_text())["processes"]
        return {str(row["name"]): ProcessView.model_validate({**row, "restarts": row["deaths"]}).model_dump() for row in rows}
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return {}


def process_checks(processes: Mapping[str, Any], *, aloud: bool) -> dict[str, str]:
    """A check for each process: `ok`, or what is wrong; with its last words only where they may be read (`aloud`)."""
    found = {}
    for name, plain in processes.items():
        process = ProcessView.model_validate(plain)
        words = f": {process.last_words}" if aloud and not process.running and process.last_words else ""
        found[f"process {name}"] = process.state + words
    return found
