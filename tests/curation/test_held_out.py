from megalith.curation.held_out import held_out


def test_the_share_held_out_is_the_share_asked() -> None:
    ids = [f"{number:032x}" for number in range(20_000)]
    count = len(held_out(ids, 0.05, seed=1))
    assert abs(count - 1000) < 5 * (20_000 * 0.05 * 0.95) ** 0.5  # five standard deviations of a binomial


def test_whether_one_is_held_out_does_not_depend_on_the_others() -> None:
    ids = [f"{number:032x}" for number in range(2000)]
    whole = held_out(ids, 0.1, seed=1)
    assert held_out(list(reversed(ids[:1000])), 0.1, seed=1) == whole & set(ids[:1000])
    assert held_out(ids, 0.1, seed=2) != whole
    assert held_out(ids, 0.05, seed=1) < whole


def test_of_two_documents_one_is_held_out_and_one_is_left() -> None:
    for seed in range(20):
        assert len(held_out(["a", "b"], 0.0001, seed)) == 1
        assert len(held_out(["a", "b"], 0.4999, seed)) == 1


def test_a_single_document_is_for_training() -> None:
    assert held_out(["a"], 0.4, seed=1) == set()
