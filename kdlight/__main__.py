"""``python -m kdlight``."""

import sys

from kdlight import stops

if __name__ == "__main__":
    stops.leave_at_once()
    from kdlight.cli import main

    sys.exit(main(sys.argv[1:]))
