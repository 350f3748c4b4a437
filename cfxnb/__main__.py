"""The command line: ``python -m cfxnb COMMAND``."""

import sys

from cfxnb.cli import main

if __name__ == "__main__":
    sys.exit(main())
