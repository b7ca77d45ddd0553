"""The contest of `curate.py`: the inputs, Megalith's side, and the peers', which run in an environment of their own."""
