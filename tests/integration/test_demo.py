"""The demo tells its whole story and ends by itself with the recording's truth."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.running import CLEAN

pytestmark = pytest.mark.xdist_group("demo")


def test_the_demo_ends_as_the_recordings_truth_says(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "gateway.cli", "demo", "--once", "--data", str(tmp_path / "data"), "--report", str(report)]
    ended = subprocess.run(command, env=CLEAN, capture_output=True, text=True, timeout=240)
    found = json.loads(report.read_text()) if report.exists() else {}
    assert ended.returncode == 0, json.dumps(found.get("verdict"), indent=1) + ended.stdout[-3000:] + ended.stderr[-3000:]
    assert found["verdict"] == {"ok": True, "differences": [], "untold": []}
    assert sum(len(rows) for rows in found["quarters"].values()) == found["truth_quarters"]
    [breach] = found["breaches"]
    assert breach["direction"] == "IMPORT"
    errors = found["partner"]["compliance_errors"]
    assert errors
    assert "CC BY 4.0" in found["attribution"]
    assert "CC BY 4.0" in ended.stdout
    assert not (tmp_path / "data" / "endpoints.json").exists()
