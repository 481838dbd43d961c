"""``python -m pairs_lit`` is ``pairs-lit``."""

import sys

from pairs_lit.cli import main

sys.exit(main())
