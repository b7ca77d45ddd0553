import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from megalith.ngrams.sorted_sets import among, different

VALUES = st.lists(st.integers(0, 30), max_size=40)


@given(VALUES, VALUES)
def test_sets_are_what_pythons_are(some: list[int], others: list[int]) -> None:
    ascending = different(np.array(others, np.uint64))
    assert ascending.tolist() == sorted(set(others))
    assert among(np.array(some, np.uint64), ascending).tolist() == [value in others for value in some]
