"""`python -m megalith.training TASK PARENT`: one training process, as the launcher starts it.

It leaves without the farewells of Python and of C++: tearing down gloo's threads has been seen to abort a rank whose
work was done and on disk ("terminate called without an active exception").
"""

import os
import sys

from megalith.training.worker import main

code = main(*sys.argv[1:])
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)
