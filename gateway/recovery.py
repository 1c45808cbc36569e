"""Recovery stores: where each flow's is, what it was made with, and that only one run has it open (engine.md 4)."""

import fcntl
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from bytewax.recovery import init_db_dir

from schemas.clock import wall_seconds
from sinks.errors import Misconfigured, Unavailable

PARTITIONS = {"telemetry": 4}
"""Into how many files a new store is divided, so that several processes write at once; else one. Fixed with the store."""
FREE_WITHIN_S = 15.0
"""So long a run waits for the one before it, which may still be draining."""
STAMP = "made-with.json"
NAME = "name"
"""The file with the name under which the last holder of a lease is known to have used the store."""
Layout = Mapping[str, int]
"""What of a flow cannot change while it keeps its store, such as the number of lanes."""


def recovery_store(root: Path, flow: str, incarnation: str, layout: Layout | None = None) -> Path:
    """The flow's recovery directory, made where missing. A broker that forgot (another incarnation) gets a new one.

    Raises Misconfigured for a store of another layout, since going on with it would leave state or positions behind in
    it, and for one that has lost a part.
    """
    path = _place(root, flow, incarnation)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not any(path.iterdir()):
            _make(path, layout or {})
    except OSError as error:
        raise Misconfigured("DERMS_DATA", f"{error.strerror}: {path}", "name a directory that can be written") from None
    _demand(path, layout or {})
    return path


def taken_up(root: Path, flow: str, incarnation: str, before: str | None) -> tuple[str, bool]:
    """The name of the flow's store, and whether it may be gone on from where a flow runs on several machines in turn.

    `before` names the store the flow was last run on, wherever that is. If that is another one, ours is behind: it is put
    aside (one such is kept) and a new one made. Where nobody knows (None), ours is gone on from. Raises Misconfigured.
    """
    path = _place(root, flow, incarnation)
    goes_on = before is None or before == _name(path)
    try:
        if not goes_on and path.exists():
            aside = path.with_name(f"{flow}.aside")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        recovery_store(root, flow, incarnation)
        if not _name(path):
            (path / f"{NAME}.part").write_text(uuid.uuid4().hex)
            (path / f"{NAME}.part").rename(path / NAME)
    except OSError as error:
        raise Misconfigured("DERMS_DATA", f"{error.strerror}: {path}", "name a directory that can be written") from None
    return _name(path), goes_on


def _name(path: Path) -> str:
    try:
        return (path / NAME).read_text()
    except OSError:
        return ""


def _make(path: Path, layout: Layout) -> None:
    """Make a store beside and put it in its place whole: several processes of a cluster may come at once."""
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        init_db_dir(beside, count := PARTITIONS.get(path.name, 1))
        (beside / STAMP).write_text(json.dumps({**layout, "partitions": count}))
        beside.rename(path)
    except OSError:
        shutil.rmtree(beside)
        if not any(path.iterdir()):
            raise


def _place(root: Path, flow: str, incarnation: str) -> Path:
    return root / "recovery" / incarnation / flow


def closed_quarters(root: Path, incarnation: str) -> Path:
    """Where the telemetry flow keeps quarters that are closed: in its store, so that both are moved as one."""
    return _place(root, "telemetry", incarnation) / "closed-quarters"


def begun(root: Path, flow: str, incarnation: str) -> datetime:
    """When the flow's store was made (wall time); now, where there is none yet."""
    try:
        return datetime.fromtimestamp((_place(root, flow, incarnation) / STAMP).stat().st_mtime, UTC)
    except OSError:
        return datetime.now(UTC)


def _demand(path: Path, layout: Layout) -> None:
    """That the store is whole and of this layout: the engine of a cluster would not say what is wrong with it."""
    try:
        made = json.loads((path / STAMP).read_text())
    except (OSError, ValueError):
        made = {}
    there = len(list(path.glob("part-*.sqlite3")))
    if there != made.get("partitions", there) or not there:
        raise Misconfigured(f"the recovery store {path}", f"has {there} of its {made.get('partitions', 'files')} partitions", cure_of(path))
    for what, ours in layout.items():
        if (theirs := made.get(what)) != ours:
            before = f"with {theirs} {what}" if theirs is not None else f"by a program that did not write down its {what}"
            raise Misconfigured(f"the recovery store {path}", f"was made {before}, this program has {ours} {what}", cure_of(path))


def cure_of(path: Path) -> str:
    """What to do about a store that this program cannot go on with."""
    return f"go back to the program that made it, or move {path} away: the flow then reads again what Kafka holds and writes the same rows"


def claim(root: Path, flow: str, incarnation: str, within_s: float = FREE_WITHIN_S) -> int:
    """Keep other runs off a flow's store as long as the returned descriptor is open, here or in a process that inherits it.

    Blocks while another run has it; raises Unavailable if that does not end within `within_s`, Misconfigured where
    there can be no file.
    """
    path = _place(root, flow, incarnation)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path.with_name(f"{flow}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Misconfigured("DERMS_DATA", f"{error.strerror}: {path}", "name a directory that can be written") from None
    deadline = wall_seconds() + within_s
    while not _locked(handle):
        if wall_seconds() > deadline:
            os.close(handle)
            raise Unavailable(f"another run of {flow} still has the recovery store in {path.parent} open")
        time.sleep(0.1)
    return handle


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
