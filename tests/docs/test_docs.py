"""The pages are whole: every verb has one, and recipes and links on them hold."""

import re
from pathlib import Path

import pytest

from megalith.recipe import load_recipe
from tests.conftest import ROOT
from tests.docs.pages import PAGES, VERBS

DOCS = ROOT / "docs"


def test_the_recipe_on_the_page_about_recipes_is_whole(tmp_path: Path) -> None:
    page = (DOCS / "how-a-recipe-is-read.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "small.yaml").write_text(example)
    recipe, _ = load_recipe(tmp_path / "small.yaml")
    assert recipe.train.tokens == 20_000_000
    assert recipe.train.learning_rate == 1e-3


def test_every_verb_has_a_page() -> None:
    named = {page.stem for page in (DOCS / "verbs").glob("*.md")}
    curate = (DOCS / "verbs" / "curate.md").read_text(encoding="utf-8")
    assert "megalith crawl" in curate
    assert {verb.split()[0] for verb in set(VERBS) - {"crawl"}} <= named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_one_title_and_links_that_lead_to_a_file(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(re.findall(r"^# ", text, flags=re.MULTILINE)) == 1
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / target).exists(), target


LOOKED_FOR = {
    "learning-rate schedule": "def learning_rate",
    "gradient clipping": "def clip_factor",
    "collective timeout": "def set_timeout",
    "data sharding over ranks": "def rank_samples",
    "memory estimate": "memory of a job",
    "tensor-parallel plan": "def split_tensors",
    "FSDP and ZeRO": "fully_shard",
    "training loop": "def ",
    "MinHash deduplication": "MinHash",
    "masking of private data (PII)": "def mask",
}


def test_the_ten_things_that_one_looks_for_are_where_readme_says() -> None:
    rows = re.findall(
        r"^\| ([^|`]+) \| `([\w/.]+)` \|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert [name for name, _ in rows] == list(LOOKED_FOR)
    for name, file in rows:
        assert LOOKED_FOR[name] in (ROOT / "megalith" / file).read_text(encoding="utf-8"), (name, file)
