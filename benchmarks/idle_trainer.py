"""A trainer that trains nothing: it completes every job after a given number of CPU seconds.

python benchmarks/idle_trainer.py SECONDS --worker
"""

import json
import sys
import time

ENTRY = {"status": "success", "bundle": "", "sample_count": 20, "session_count": 2, "exit_code": 0}


def main() -> None:
    """Complete one job per line of standard input."""
    seconds = float(sys.argv[1])
    for _ in sys.stdin:
        until = time.process_time() + seconds
        while time.process_time() < until:
            pass
        sys.stdout.write(json.dumps(ENTRY) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
