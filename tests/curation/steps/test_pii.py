import time
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megalith.curation.steps.pii import mask
from megalith.recipe.filters import PrivateConfig

EVERYTHING = PrivateConfig(emails=True, ip_addresses=True, phone_numbers=True, keys=True)


def masked(text: str, rules: PrivateConfig = EVERYTHING) -> str:
    found, _ = mask(pa.array([text]), rules)
    return str(found[0].as_py())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Write to jane.doe+x@mail.example.org.", "Write to <EMAIL>."),
        ("(a@b.co)", "(<EMAIL>)"),
        ("mailto:Info@Foo-Bar.DE, x", "mailto:<EMAIL>, x"),
        ("an jörg@example.org", "an <EMAIL>"),
        ("邮箱：wang@qq.com。", "邮箱：<EMAIL>。"),
        ("host 93.184.216.34:80", "host <IP_ADDRESS>:80"),
        ("93.184.216.34-93.184.216.40", "<IP_ADDRESS>-<IP_ADDRESS>"),
        ("at 2606:2800:220:1:248:1893:25c8:1946.", "at <IP_ADDRESS>."),
        ("[2a00:1450:4001:81b::200e]/x", "[<IP_ADDRESS>]/x"),
        ("call +49 221 123 45-67 now", "call <PHONE_NUMBER> now"),
        ("+44 (0)20 7946 0958", "<PHONE_NUMBER>"),
        ("电话：+8613812345678。", "电话：<PHONE_NUMBER>。"),
        ("+1 (415) 555-2671", "<PHONE_NUMBER>"),
        ("(415) 555-2671", "<PHONE_NUMBER>"),
        ("1-415-555-2671.", "<PHONE_NUMBER>."),
        ("415.555.2671", "<PHONE_NUMBER>"),
        ("AKIAIOSFODNN7ABCDEFG", "<KEY>"),
        ("token=ghp_" + "a1B2" * 9, "token=<KEY>"),
        ("api_key = 'f3Zk9QpL27xTyVb81MwRe5'", "api_key = '<KEY>'"),
        ('"password": "h7Gk29sLqPz04xVn"', '"password": "<KEY>"'),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n", "<KEY>"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIBOgIBAAJB\nabc=\n-----END RSA PRIVATE KEY-----\nz", "<KEY>\nz"),
    ],
)
def test_what_would_reach_a_person_or_open_a_door_is_masked_and_nothing_beside_it(text: str, wanted: str) -> None:
    assert masked(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "version 10.11.12.13",
        "v1.20.3.40",
        "1.2.3.4",
        "see § 12.3.4.15",
        "Section 12.3.4.15",
        "192.168.10.20, 127.0.0.1 and 10.0.0.12; 224.0.0.10",
        "256.100.50.25",
        "OID 1.3.6.1.4.1.311",
        "foo-10.20.30.40.tar.gz",
        "2001:db8::1:2",
        "std::vector abc::def 12:34:56 a[2000::5]",
        "2015-03-04 10:22:33",
        "ISBN 978-3-16-148410-0 and 0-306-40615-2",
        "x = a+12345678901 + 2+22222222",
        "3.14159265358979 and 6.02214076e23",
        "555-2671 and 123-456-7890",
        "$1,234,567.89 200 300 4000",
        "1998-2004-2010, Fig. 2-415-555, doi 10.1000/182",
        "+44444444444 +77 777 777 77",
        "+1 million people, +10 %, C++ 2023 2024 2025",
        "@user, a@b, x@y and f(@x.y)",
        "primary key: customer_identifier_column",
        "key = value_of_the_thing_here",
        "password = get_password_from_vault()",
        "token: your_token_1234567890",
        "monkey: abcdefghijklmnop",
        "commit 4a7d1ed414474e4033ac29ccb8653d9b",
        "AKIA and eyJust.kidding about sk-learn-extension",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "<EMAIL> <IP_ADDRESS> <PHONE_NUMBER> password=<KEY>",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert masked(text) == text


def test_each_kind_is_masked_by_its_own_option_and_counted() -> None:
    text = "a@b.org, a@b.org, 93.184.216.34, (415) 555-2671, AKIAIOSFODNN7ABCDEFG"
    texts = pa.array([text, None, "nothing", text], pa.large_string())
    wanted = {
        "emails": ("email", 4),
        "ip_addresses": ("ip_address", 2),
        "phone_numbers": ("phone_number", 2),
        "keys": ("key", 2),
    }
    for option, (kind, count) in wanted.items():
        found, counts = mask(texts, PrivateConfig.model_validate({option: True}))
        assert counts == Counter({kind: count})
        assert found.type == texts.type
        assert found[1].as_py() is None and found[2].as_py() == "nothing"
        assert found[0].as_py().count("<") == count / 2
    assert mask(texts, PrivateConfig())[0].equals(texts)


def test_a_slice_of_an_array_is_read_from_its_own_start() -> None:
    texts = pa.array(["é" * 9, "x a@b.org", "y 93.184.216.34"]).slice(1)
    assert mask(texts, EVERYTHING)[0].to_pylist() == ["x <EMAIL>", "y <IP_ADDRESS>"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet="a@.+:-=1234 \n()é中kehtAKI_", max_size=80), max_size=4))
def test_the_rest_of_a_text_is_left_as_it_is_and_twice_is_as_once(texts: list[str]) -> None:
    once, _ = mask(pa.array(texts, pa.string()), EVERYTHING)
    assert mask(once, EVERYTHING)[0].equals(once)
    for before, after in zip(texts, once.to_pylist(), strict=True):
        at = 0
        for piece in after.replace("<IP_ADDRESS>", "<EMAIL>").replace("<KEY>", "<EMAIL>").split("<EMAIL>"):
            for part in piece.split("<PHONE_NUMBER>"):
                at = before.find(part, at) + len(part)
                assert at >= len(part)


@pytest.mark.parametrize(
    "line",
    [
        *(
            "a",
            "a@",
            "1.",
            "+1 2 ",
            "2001:",
            "-----BEGIN PRIVATE KEY-----",
            "key=",
            "key=a1",
            "eyJaaaaaaaa.",
            "sk-a-",
            "@",
        ),
        *("415-", "a.a.a.a-@b.c-", "key:", "(", "93.184.216.34.", "1-", "AKIA"),
    ],
)
def test_no_line_takes_more_than_linear_time(line: str) -> None:
    """A million bytes of what is worst for each rule take less than a second; a quadratic rule takes minutes."""
    text = pa.array([line * (1_000_000 // len(line))])
    mask(pa.array([line]), EVERYTHING)  # compiles
    start = time.process_time()
    mask(text, EVERYTHING)
    assert time.process_time() - start < 2.0
