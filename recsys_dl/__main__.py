"""`python -m recsys_dl`: the command."""

import sys

from recsys_dl.cli import main

sys.exit(main())
