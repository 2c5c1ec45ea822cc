"""``python -m kdlight``."""

import sys

from kdlight import stops

if __name__ == "__main__":
    stops.leave_at_once()
    from kdlight.cli import program

    sys.exit(program(sys.argv[1:]))
