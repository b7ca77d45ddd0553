"""A worker that says back what it is asked, after as many seconds as `sleep` says, as `start_workers` starts one."""

import json
import sys
import time
from itertools import chain

from megalith.processes import die_with


def main() -> None:
    die_with(int(sys.argv[4]))
    for line in chain(['{"base_bytes": 1}\n'], sys.stdin):
        time.sleep(json.loads(line).get("sleep", 0))
        sys.stdout.write(line)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
