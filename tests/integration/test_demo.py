"""The demo tells its whole story and ends by itself with the recording's truth; its page is looked at on the way."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.instance_files import read_endpoints
from tests.browser.driving import NAMES, enter, picture
from tests.browser.driving import browser as a_browser
from tests.integration.running import CLEAN, api, until

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.slow]
PICTURE = "DERMS_TEST_PICTURE"
"""Where to leave the picture of the page, for the README: DERMS_TEST_PICTURE=docs/page.png."""


def look(data: Path, tmp_path: Path) -> None:
    """Wait until the breach is open and reported, then look at the page as an operator."""
    endpoints = until(lambda: read_endpoints(data), "the demo runs")
    until(lambda: api(endpoints, "GET", "/breaches?state=open")["items"], "a breach is open", 120)
    found = lambda: [m for m in api(endpoints, "GET", "/messages")["items"] if m["action"] == "GroupCapacityComplianceError"]  # noqa: E731
    until(lambda: any(message["status"] == 204 for message in found()), "the breach is reported")
    path = Path(os.environ.get(PICTURE, tmp_path / "page.png"))
    picture(endpoints.operations_url, endpoints.operator_token(), path)
    assert path.stat().st_size > 20_000
    with a_browser() as running:
        page = enter(running.new_context(java_script_enabled=False), endpoints.operations_url, endpoints.operator_token())
        text = page.inner_text("body")
    for words in ("ONLINE", "House in Sceaux", "GroupCapacityComplianceError", "204", "CC BY 4.0"):
        assert words in text or words.lower() in text.lower(), words


def test_the_demo_ends_as_the_recordings_truth_says(tmp_path: Path) -> None:
    data, report = tmp_path / "data", tmp_path / "report.json"
    command = [sys.executable, "-m", "gateway.cli", "demo", "--once", "--data", str(data), "--report", str(report)]
    with (tmp_path / "screen").open("wb") as screen:
        demo = subprocess.Popen(command, env=CLEAN, stdout=screen, stderr=screen)
    try:
        if os.environ.get("CI") == "true" or any(shutil.which(name) for name in NAMES):
            look(data, tmp_path)
        code = demo.wait(240)
    finally:
        demo.kill()
        demo.wait()
    shown = (tmp_path / "screen").read_text()
    found = json.loads(report.read_text()) if report.exists() else {}
    assert code == 0, json.dumps(found.get("verdict"), indent=1) + shown[-3000:]
    assert found["verdict"] == {"ok": True, "differences": [], "untold": []}
    assert sum(len(rows) for rows in found["quarters"].values()) == found["truth_quarters"]
    [breach] = found["breaches"]
    assert (breach["direction"], breach["state"], breach["quarters"]) == ("IMPORT", "CLOSED", 4)
    emergency = found["partner"]["forecasts"][-1]["request_id"]
    assert {error["correlation_id"] for error in found["partner"]["compliance_errors"]} == {emergency}
    assert "CC BY 4.0" in found["attribution"]
    assert "CC BY 4.0" in shown
    assert not (data / "endpoints.json").exists()
