"""``python -m kdlight``."""

import sys

from kdlight.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
