from megalith.curation.language import identify, reason_to_drop

ENGLISH = "The quick brown fox jumps over the lazy dog, and the people of the town were pleased to see it. " * 3
GERMAN = (
    "Der schnelle braune Fuchs springt über den faulen Hund, und die Leute der Stadt freuten sich sehr darüber. " * 3
)


def test_languages_are_told_apart() -> None:
    assert identify(ENGLISH).code == "en"
    assert identify(GERMAN).code == "de"


def test_the_share_is_that_of_the_bytes() -> None:
    shares = identify(ENGLISH + GERMAN).shares
    assert (
        abs(shares["en"] - len(ENGLISH) / len(ENGLISH + GERMAN)) < 0.1
    )  # CLD2 scores quadgrams and rounds to whole percents
    assert shares["en"] + shares["de"] > 0.95


def test_a_document_is_kept_by_the_share_of_its_kept_languages() -> None:
    mixed = identify(ENGLISH + GERMAN)
    assert reason_to_drop(mixed, ["en"], 0.4) is None
    assert reason_to_drop(mixed, ["en"], 0.7) is not None
    assert reason_to_drop(mixed, ["en", "de"], 0.9) is None
    assert reason_to_drop(identify(GERMAN), ["en"], 0.5) == "language de"
    assert reason_to_drop(identify(GERMAN), [], 0.5) is None


def test_characters_that_are_not_for_interchange_do_not_stop_it() -> None:
    assert identify("\x00\x01\ufffe" + ENGLISH).code == "en"
    assert identify("").code == "un"
    assert reason_to_drop(identify("1234 5678"), ["en"], 0.5) == "language un"


def test_hebrew_has_its_iso_code() -> None:
    assert identify("כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. " * 3).code == "he"
