"""``python -m tests.access_matrix``: prints the matrix; with ``--write``, into docs/access.md."""

from __future__ import annotations

import sys

from tests.access_matrix.page import PAGE, page

if sys.argv[1:] == ["--write"]:
    PAGE.write_text(page(), encoding="utf-8")
else:
    sys.stdout.write(page())
