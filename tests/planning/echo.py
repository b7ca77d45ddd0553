"""A worker that says back what it is asked, as `start_workers` starts one."""

import sys
from itertools import chain


def main() -> None:
    for line in chain(['{"base_bytes": 1}\n'], sys.stdin):
        sys.stdout.write(line)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
