"""`python -m megalith` is the command `megalith`."""

from megalith.cli import main

if __name__ == "__main__":
    main()
