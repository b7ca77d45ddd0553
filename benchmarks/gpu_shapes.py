"""The models of `train_gpu.py`, and what the planner predicts of each on one GPU, before any is measured."""

from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from typing import Any

from megalith.arithmetic import flops_per_token, parameters
from megalith.console import human_bytes, human_count, human_seconds, show, table
from megalith.job import Job
from megalith.planning.measuring.accelerator_layouts import by_memory
from megalith.planning.performance import predict_step
from megalith.planning.performance.memory import estimate_memory
from megalith.planning.search import Evaluator, Question, best_layout
from megalith.planning.search.branch_and_bound import least_memory_candidates
from megalith.planning.search.space import Space
from megalith.recipe import ClusterConfig, ModelConfig
from megalith.topology import Cluster, describe

VOCAB, TINY_VOCAB = 50257, 512
PREDICTED_ON = ("dgx-a100", "dgx-h100", "dgx-h200")


@dataclass(frozen=True)
class Shape:
    """A model and the sequences of its step."""

    name: str
    layers: int
    hidden: int
    heads: int
    length: int
    batch: int
    vocab: int = VOCAB
    losses: bool = True
    """Whether 20 steps in fp32 are affordable, in time and in memory."""

    @property
    def model(self) -> ModelConfig:
        return ModelConfig(
            num_layers=self.layers,
            hidden_size=self.hidden,
            num_heads=self.heads,
            vocab_size=self.vocab,
            sequence_length=self.length,
        )


SHAPES = (
    Shape("124M", 12, 768, 12, 1024, 64),
    Shape("350M", 24, 1024, 16, 1024, 64),
    Shape("1.3B", 24, 2048, 16, 2048, 32),
    Shape("7B", 32, 4096, 32, 2048, 16, losses=False),
    Shape("7B/2", 16, 4096, 32, 2048, 16, losses=False),
    Shape("tiny", 2, 64, 2, 64, 4, TINY_VOCAB),
)
"""GPT-3's small, medium, XL (with 16 heads of 128) and 6.7B (2005.14165, table 2.1); half of the last one's layers, for
cards that do not hold all of its optimizer; and one that any machine trains at once."""


def one_of(cluster: str) -> Cluster:
    """One accelerator of a cluster."""
    return describe(ClusterConfig(name=cluster, nodes=1, accelerators_per_node=1))


def job_on(cluster: Cluster, shape: Shape) -> Job | None:
    """The layout that the planner would train in on one accelerator; None where none fits."""
    question = Question(shape.model, cluster, shape.batch)
    if cluster.facts is None:
        return next(iter(by_memory(question)[0]), None)
    found = best_layout(question, Evaluator(sure=True)) or best_layout(question, Evaluator())
    return found.best.job if found else None


def predict(cluster: Cluster, shape: Shape) -> dict[str, Any]:
    """The planner's row for a shape on one accelerator; without times where its datasheet is not known."""
    job = job_on(cluster, shape)
    row: dict[str, Any] = {
        "accelerator": cluster.accelerator,
        "accelerator_bytes": cluster.memory_bytes,
        "shape": shape.name,
        "parameters": parameters(shape.model).total,
        "sequence_length": shape.length,
        "global_batch_size": shape.batch,
        "fits": job is not None,
    }
    if job is None:
        return row | {"least_bytes": least_bytes(cluster, shape)}
    memory = estimate_memory(job)
    row |= {
        "micro_batch_size": job.micro_batch_size,
        "recompute": job.recompute,
        "recompute_every": job.recompute_every,
        "allocated_bytes": memory.worst.allocated_bytes,
        "reserved_bytes": memory.worst.reserved_bytes,
        "device_bytes": memory.worst.device_bytes,
        "device_bytes_interval": list(memory.interval),
    }
    if cluster.facts is None:
        return row
    step = predict_step(job, exact=True)
    tokens = shape.batch * shape.length
    return row | {
        "step_seconds": step.seconds,
        "interval": list(step.interval),
        "coverage": step.coverage,
        "tokens_per_second": tokens / step.seconds,
        "mfu": tokens * flops_per_token(shape.model) / step.seconds / cluster.facts.peak(job.precision),
    }


def constants() -> dict[str, str]:
    """The SHA-256 of each file of constants that predictions rest on: refitted, they predict other figures."""
    folder = resources.files("megalith.planning") / "constants"
    return {name: sha256((folder / name).read_bytes()).hexdigest() for name in ("published.json", "memory.json")}


def least_bytes(cluster: Cluster, shape: Shape) -> float:
    """Bytes that the leanest layout takes on one accelerator."""
    space = Space(Question(shape.model, cluster, shape.batch))
    jobs = (job for place in space.smallest_places() for job in least_memory_candidates(space, place))
    return min(estimate_memory(job).worst.device_bytes for job in jobs)


def show_predicted(rows: list[dict[str, Any]]) -> None:
    cells = []
    for row in rows:
        if not row["fits"]:
            over = f"does not fit: {human_bytes(row['least_bytes'])} of {human_bytes(row['accelerator_bytes'])}"
            cells.append([row["accelerator"], row["shape"], "–", over, "", "", "", ""])
            continue
        timed = ["–"] * 3
        if "step_seconds" in row:
            low, high = (human_seconds(end) for end in row["interval"])
            timed = [
                f"{human_seconds(row['step_seconds'])} ({low} – {high})",
                human_count(row["tokens_per_second"]),
                f"{row['mfu']:.1%}",
            ]
        memory = [human_bytes(row["allocated_bytes"]), human_bytes(row["device_bytes"])]
        cells.append(
            [row["accelerator"], row["shape"], f"{row['micro_batch_size']}, {row['recompute']}", *timed, *memory]
        )
    headings = ["accelerator", "shape", "micro-batch, recompute", "step", "tokens/s", "MFU", "allocated", "on the card"]
    show(table("Predicted for one GPU, bf16", headings, cells, left=3))
