"""Old name of the built-in batch system's command line, ``python -m zwrap.pool``."""

import sys

from zwrap.pool.__main__ import main as main

if __name__ == "__main__":
    sys.exit(main())
