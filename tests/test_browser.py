"""The report in a real browser (Chromium): it fits a phone and a desktop, and prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from front_door import ROOT

pytest.importorskip(
    "PySide6.QtWebEngineWidgets",
    reason='no browser: pip install -e ".[browser]"',
    exc_type=ImportError,
)

SETTINGS = {
    "QT_QPA_PLATFORM": "offscreen",
    "QT_QUICK_BACKEND": "software",
    "QTWEBENGINE_DISABLE_SANDBOX": "1",
    "QTWEBENGINE_CHROMIUM_FLAGS": "--no-sandbox --disable-gpu",
}


def test_the_report_fits_and_prints(finished, tmp_path):
    page, pdf = finished / "outputs/shapes/report.html", tmp_path / "report.pdf"
    command = [sys.executable, str(ROOT / "tests/browser_page.py"), str(page), str(pdf)]
    done = subprocess.run(
        command, env={**os.environ, **SETTINGS}, capture_output=True, text=True, timeout=120
    )
    measured = json.loads(done.stdout)
    assert [found["width"] for found in measured["pages"]] == [360, 1280]
    for found in measured["pages"]:
        assert found["needed"] <= found["width"]
        assert found["broken"] == found["requests"] == 0
    assert measured["complaints"] == []
    assert pdf.read_bytes().startswith(b"%PDF")
