"""Two hundred faults of training, planted one by one: `python -m tests.faults`; see docs/faults.md."""
