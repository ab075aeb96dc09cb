"""`python -m deploy.cli`: the `weir` command where it is not on the path."""

import sys

from deploy.cli import main

sys.exit(main())
