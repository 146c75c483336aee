"""Shared by all tests: comparing text with files of expected text, which `pytest --update-golden` writes anew."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

GOLDEN = Path(__file__).resolve().parent / "golden"
_LOCATION = re.compile(r"  [\w.<>-]+:\d+$", re.MULTILINE)


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write the files in tests/golden anew")


@pytest.fixture
def golden(request):
    """golden(name, text) compares `text`, source lines left out, with the file tests/golden/<name>.txt."""

    def check(name: str, text: str) -> None:
        text = _LOCATION.sub("", text)
        file = GOLDEN / f"{name}.txt"
        if request.config.getoption("--update-golden"):
            file.write_text(text)
        assert file.exists(), f"{file.name} is missing: run pytest --update-golden and look at what it says"
        assert text == file.read_text()

    return check
