"""What the peers need and the project does not: an interpreter with Quix Streams, jars and classes. Made once, under .cache/bench."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.kafka.broker import missing_tools

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
CACHE = HERE.parents[1] / ".cache" / "bench"
_SHARED = ("Reading.java", "Row.java")


class NotMade(RuntimeError):
    """A peer cannot be run here; the words say why."""


def quix_python() -> Path:
    """The interpreter that has Quix Streams."""
    wanted, folder = HERE / "quix-requirements.txt", CACHE / "quix"
    if not _same(folder / ".complete", [wanted]):
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(folder / "bin" / "python"), "-m", "pip", "-q", "--disable-pip-version-check", "install", "-r", str(wanted)])
        _remember(folder / ".complete", [wanted])
    return folder / "bin" / "python"


def java_classpath(peer: str) -> str:
    """The class path of a peer in Java (`streams` or `flink`): its jars by Maven, its classes by javac."""
    if (reason := missing_tools()) is not None:
        raise NotMade(reason)
    sources = [*(PEERS / "java" / name for name in _SHARED), *sorted((PEERS / peer).glob("*.java"))]
    pom, folder = PEERS / peer / "pom.xml", CACHE / peer
    lib, classes = folder / "lib", folder / "classes"
    if not _same(lib / ".complete", [pom]):
        shutil.rmtree(lib, ignore_errors=True)
        arguments = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={lib}"]
        _run([*arguments, "-DincludeScope=runtime"])
        _remember(lib / ".complete", [pom])
    if not _same(classes / ".complete", [pom, *sources]):
        shutil.rmtree(classes, ignore_errors=True)
        classes.mkdir(parents=True)
        _run(["javac", "-nowarn", "-d", str(classes), "-cp", f"{lib}/*", *map(str, sources)])
        _remember(classes / ".complete", [pom, *sources])
    return f"{classes}:{lib}/*"


def _same(mark: Path, files: Sequence[Path]) -> bool:
    return mark.exists() and mark.read_text() == _text(files)


def _remember(mark: Path, files: Sequence[Path]) -> None:
    mark.write_text(_text(files))


def _text(files: Sequence[Path]) -> str:
    return "\n".join(file.read_text() for file in files)


def _run(arguments: Sequence[str]) -> None:
    done = subprocess.run(list(arguments), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotMade(f"{arguments[0]} failed: {(done.stdout + done.stderr).strip()[-2000:]}")
