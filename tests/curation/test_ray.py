"""The same plan on a Ray cluster of two nodes, one of which is lost midway."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from megalith.curation import curate
from megalith.curation.corpus import read_units
from megalith.recipe import load_recipe
from tests.corpus import docstrings, write_jsonl

SETTINGS = ["curate.validation_share=0.2", "curate.task_items.most=30", "curate.heuristics.minimum_stop_words=1"]
UNIT_BYTES = 20_000
PROGRAM = f"""
import os, pathlib, sys, threading, time
from ray.cluster_utils import Cluster
settings = {{"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}}
cluster = Cluster(initialize_head=True, head_node_args=settings)
node = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
from megalith.curation import curate, engine
from megalith.curation.corpus import read_units, table
from megalith.curation.engine import use_engine
from megalith.curation.ray_engine import daft
from megalith.recipe import load_recipe
read_units.FEWEST_BYTES = {UNIT_BYTES}
engine.WORTH_BYTES = 1
table.FEWEST_ROWS = table.CHUNK_ROWS = 8
use_engine("ray", cluster.address)
place = pathlib.Path(sys.argv[1])
lost_at, pattern = {{
    "reading": (f".{{place.name}}-documents.partial/logs/units", "[0-9]*.json"),
    "deciding": (f".{{place.name}}.partial/decisions/near/band-000", "*.dealt"),
}}[sys.argv[3]]

def lose_a_node():
    while len(list((place.parent / lost_at).glob(pattern))) < 3:
        time.sleep(0.02)
    cluster.remove_node(node, allow_graceful=False)

threading.Thread(target=lose_a_node, daemon=True).start()
made = curate(load_recipe("quickstart", {SETTINGS})[0], place, [pathlib.Path(sys.argv[2])])
print(daft.get_or_create_runner().name, made.digest, flush=True)
os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("during", ["reading", "deciding"])
def test_a_ray_cluster_that_loses_a_node_makes_the_same_bytes(
    during: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    source = write_jsonl(tmp_path / "docs.jsonl", [text for text in docstrings() if 1500 < len(text) < 30_000][:60])
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "ray"), str(source), during]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    runner, digest = done.stdout.split()[-2:]
    monkeypatch.setattr(read_units, "FEWEST_BYTES", UNIT_BYTES)
    native = curate(load_recipe("quickstart", SETTINGS)[0], tmp_path / "native", [source])
    assert len(json.loads((tmp_path / "ray-documents" / "units.json").read_text())["units"]) > 10
    assert (runner, digest) == ("ray", native.digest)
