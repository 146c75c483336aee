"""All tests, doctests included, keep machine code in a folder of this run, which its workers share."""

from __future__ import annotations

import os
import tempfile

if "PYTEST_XDIST_WORKER" not in os.environ:
    _folder = tempfile.TemporaryDirectory(prefix="jitgrad-tests-")  # removed at this process's end
    os.environ["JITGRAD_CACHE_DIR"] = _folder.name
