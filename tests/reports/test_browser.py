"""The page in a real browser, where there is one."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import reports

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
)


@pytest.fixture(scope="module")
def index(run: Path) -> Path:
    return reports.write(run)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_opens_from_disk_without_errors_or_requests(index: Path, tmp_path: Path, width: int) -> None:
    log, shot = tmp_path / "net.json", tmp_path / "page.png"
    command = [
        str(CHROMIUM),
        *QUIET,
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--log-net-log={log}",
        f"--screenshot={shot}",
        f"--window-size={width},2000",
        index.as_uri(),
    ]
    browser = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in browser.stderr
    assert shot.stat().st_size > 20_000
    facts = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    of_the_page = [
        str(fact.get("url", "file:")) for fact in facts if "file://" in str(fact.get("network_isolation_key"))
    ]
    assert not [url for url in of_the_page if not url.startswith("file:")]
