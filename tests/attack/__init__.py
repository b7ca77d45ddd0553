"""An attack on the whole program: kills, damage, fuzzed input and hostile surroundings.

`make attack` runs it and `docs/attack.md` describes it. Every case is one run of the command, made from a seed and a
number alone, so that a failure is reproduced by `python -m tests.attack --only KIND --seed S --case N`.
"""
