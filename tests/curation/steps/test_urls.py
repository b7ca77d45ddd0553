import gzip
import random
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pytest

from megalith.curation.steps.urls import UrlRules, read_rules, reasons
from megalith.errors import InputError
from megalith.recipe.filters import UrlConfig


def rules(**settings: object) -> UrlRules:
    found = read_rules(UrlConfig.model_validate(settings))
    assert found is not None
    return found


def listed(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return str(path)


def one(url: str | None, by: UrlRules) -> str | None:
    found: str | None = reasons(pa.array([url], pa.string()), by)[0].as_py()
    return found


@pytest.mark.parametrize(
    "url",
    [
        "http://bad.com",
        "https://a.b.bad.com:8080/x?y#z",
        "http://user:p@BAD.com./",
        "bad.com/x",
        "//bad.com",
        " http://bad.com ",
        "http://www.bücher.example/x",
        "http://b%C3%BCcher.example",
        "http://xn--bcher-kva.example/",
        "http://bad.com\\@good.com/",
    ],
)
def test_a_domain_blocks_itself_and_what_is_under_it_however_it_is_written(tmp_path: Path, url: str) -> None:
    by = rules(blocklists=[listed(tmp_path / "ads.txt", "# made by hand\nbad.com\n\nbücher.example\n")])
    assert one(url, by) == "domain in ads"


@pytest.mark.parametrize(
    "url",
    [
        *("http://notbad.com", "http://bad.com.example", "http://x.com/bad.com", "http://x.com/?u=http://bad.com"),
        *("http://bad.com@x.com", "http://com/", "file:///bad.com", "", None),
    ],
)
def test_a_domain_blocks_no_other(tmp_path: Path, url: str | None) -> None:
    assert one(url, rules(blocklists=[listed(tmp_path / "ads.txt", "bad.com")])) is None


def test_an_address_blocks_what_is_below_it_in_its_path(tmp_path: Path) -> None:
    by = rules(blocklists=[listed(tmp_path / "urls.txt", "shared.com/~bad/\nhttps://www.foo.org/a/B?x=1\n")])
    blocked = ["http://shared.com/~bad", "https://www.shared.com/~bad/x.html", "http://foo.org/a/B?x=1&y=2#z"]
    others = ["http://shared.com/", "http://shared.com/~badly", "http://foo.org/a/b?x=1", "http://foo.org/a/B?x=12"]
    assert reasons(pa.array(blocked), by).to_pylist() == ["url in urls"] * 3
    assert reasons(pa.array(others), by).null_count == 4


def test_folders_as_ut1_lays_them_out_are_read_plain_or_compressed(tmp_path: Path) -> None:
    listed(tmp_path / "ut1" / "adult" / "domains", "bad.com\n93.184.216.34\n")
    listed(tmp_path / "ut1" / "adult" / "urls.gz", "shared.com/bad\n")
    listed(tmp_path / "ut1" / "phishing" / "domains.gz", "worse.com\nbad.com\n")
    listed(tmp_path / "ut1" / "README", "worse.org")
    for whole in ([str(tmp_path / "ut1")], [str(tmp_path / "ut1" / "adult"), str(tmp_path / "ut1" / "phishing")]):
        by = rules(blocklists=whole)
        assert by.names == ("adult", "phishing")
        urls = [
            "http://bad.com",
            "http://worse.com",
            "http://shared.com/bad/1",
            "http://93.184.216.34/",
            "http://worse.org",
        ]
        found = reasons(pa.array(urls), by).to_pylist()
        assert found == ["domain in adult", "domain in phishing", "url in adult", "domain in adult", None]


def test_lists_in_the_form_of_a_hosts_file_or_with_stars_are_read_and_other_lines_passed_over(tmp_path: Path) -> None:
    lines = ["127.0.0.1 bad.com # an advert", "0.0.0.0 worse.com", "*.stars.com", ".dots.com", "this is prose", "word"]
    text = "\n".join([*lines, "||rule.com^"])
    by = rules(blocklists=[listed(tmp_path / "hosts", text)])
    urls = [
        "http://bad.com",
        "http://a.worse.com",
        "http://stars.com",
        "http://x.dots.com",
        "http://127.0.0.1",
        "http://word",
    ]
    assert reasons(pa.array(urls), by).to_pylist() == ["domain in hosts"] * 4 + [None] * 2
    with pytest.raises(InputError, match=r"rules: no line of this list"):
        rules(blocklists=[listed(tmp_path / "rules", "||rule.com^\nthis is prose")])


def test_one_hard_word_or_enough_different_soft_ones_block(tmp_path: Path) -> None:
    hard, soft = listed(tmp_path / "hard", "Porn\n"), listed(tmp_path / "soft.gz", "casino bet\nслот\nporn")
    by = rules(hard_words=[hard], soft_words=[soft], minimum_soft_words=2)
    urls = {
        "http://x.org/PORN-1": "hard word in url",
        "http://porn.x.org/": "hard word in url",
        "http://x.org/pornography": None,
        "http://casino.org/bet": "soft words in url",
        "http://casino.org/слот": "soft words in url",
        "http://casino.org/casino/Casino": None,
        "http://casino.org/alpha%20better": None,
        "http://x.org/%bet": None,
    }
    assert reasons(pa.array(list(urls)), by).to_pylist() == list(urls.values())


def test_hosts_without_a_name_are_told() -> None:
    by = rules(drop_ip_hosts=True)
    numbers = [
        "http://93.184.216.34/",
        "http://[2606:2800::1]:80/",
        "http://1572395042/",
        "http://0x5DB8D822/x",
        "1.2.3.4",
    ]
    names = ["http://1.2.3.4.example.com", "http://3com.com", "http://x.com/1.2.3.4", "http://0xcafe.org"]
    assert reasons(pa.array(numbers), by).to_pylist() == ["ip host"] * 5
    assert reasons(pa.array(names), by).null_count == 4


def test_no_rules_are_none_and_a_list_of_nothing_is_refused(tmp_path: Path) -> None:
    assert read_rules(UrlConfig()) is None
    (tmp_path / "folder").mkdir()
    (tmp_path / "torn.gz").write_bytes(gzip.compress(b"bad.com\n" * 99)[:-12])
    for path in (
        tmp_path / "missing",
        tmp_path / "folder",
        tmp_path / "torn.gz",
        Path(listed(tmp_path / "empty", "#\n")),
    ):
        with pytest.raises(InputError, match="list"):
            rules(blocklists=[str(path)])


def test_many_urls_are_judged_as_one_by_one(tmp_path: Path) -> None:
    drawn = random.Random(1)
    hosts = [
        f"{'www.' * drawn.randrange(2)}site{drawn.randrange(5000)}.example{drawn.randrange(9)}.com"
        for _ in range(100_000)
    ]
    urls = [f"https://{host}/articles/{drawn.randrange(10**6)}/some-title?page={drawn.randrange(9)}" for host in hosts]
    blocked = {f"site{number}.example{number % 9}.com" for number in range(0, 5000, 7)}
    by = rules(
        blocklists=[listed(tmp_path / "ads", "\n".join(blocked))], hard_words=[listed(tmp_path / "hard", "porn")]
    )
    array = pa.array(urls)
    found = reasons(array, by)
    wanted = [(urlsplit(url).hostname or "").removeprefix("www.") in blocked for url in urls]
    assert [reason is not None for reason in found.to_pylist()] == wanted
    assert sum(wanted) > 1000
    assert reasons(array.slice(500, 100), by).equals(found.slice(500, 100))
