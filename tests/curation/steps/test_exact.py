from megalith.curation.steps.dedup.exact import fingerprint


def test_case_white_space_and_composition_make_no_other_text() -> None:
    assert fingerprint("Caf\u00e9  au\nlait") == fingerprint("cafe\u0301 AU lait ")
    assert fingerprint("a b") != fingerprint("ab")
