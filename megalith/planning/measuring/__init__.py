"""This machine, measured: the layouts that a run may take, and the pieces of a step from which any is composed."""
