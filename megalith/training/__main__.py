"""`python -m megalith.training JOB PARENT`: one training process, as the launcher starts it."""

import sys

from megalith.training.worker import main

sys.exit(main(*sys.argv[1:]))
