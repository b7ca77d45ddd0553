"""Software, cluster and format of numbers of a published run, by the words of its row.

The software is what `source`, `notes`, `dataset` or `model` names (STACK_WORDS); else ZeRO-3 without tensor or pipeline
parallelism is FSDP with fused attention and DeepSpeed without, ZeRO-2 and more beside them is torchtitan's kind, and
the rest Megatron-LM. The cluster is the one that these columns name (CLUSTER_WORDS), else the vendor's machine for the
GPU, with the network that `notes` state ("1600 Gbps node-node").
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

from megalith.planning.calibration.cells import Cells, NotModelledError
from megalith.planning.calibration.memory_figures import alone
from megalith.planning.performance.stacks import STACKS, stack_of
from megalith.precision import Fp8, Precision
from megalith.recipe import ClusterConfig
from megalith.topology import Cluster, describe

STACK_WORDS = (
    ("llama3", ("2407.21783",)),
    ("megatron-bridge", ("megatron-bridge", "megatron bridge", "nemo framework")),
    ("megatron-deepspeed", ("megatron-deepspeed", "megatron-turing", "mt-nlg", "bigscience", "gpt-neox")),
    ("nanotron", ("nanotron",)),
    ("torchtitan", ("torchtitan",)),
    ("fsdp", ("llm-foundry", "fsdp")),
    ("deepspeed", ("deepspeed",)),
    ("megalith", ("megalith",)),
)
CLUSTER_WORDS = (
    ("jeanzay", ("bigscience", "jean zay", "jeanzay", "jean-zay")),
    ("selene", ("selene",)),
    ("grand-teton", ("grand teton", "grand-teton")),
)
GPU_CLUSTERS = (
    ("h200", "dgx-h200"),
    ("h100-96gb", "grand-teton"),
    ("h100-sxm-96gb", "grand-teton"),
    ("h100", "dgx-h100"),
    ("b200", "dgx-b200"),
    ("mi300x", "mi300x"),
    ("a100-sxm-40gb", "dgx-a100-40gb"),
    ("a100-40gb", "dgx-a100-40gb"),
    ("a100", "dgx-a100"),
    ("v100-sxm3", "dgx-2"),
    ("v100", "dgx-1"),
)
"""The machine for the first that a GPU's name begins with."""
_OVERLAP = r"\btp\b[^;|]*overlap|async ?tp"  # how notes say that the tensor axis sends beside the products
_GRAPHS = r"cuda ?graph"
FP8 = r"(mx)?(fp|float)8([-_ ].*)?"  # fp8, fp8-block, fp8_cs, float8 rowwise, mxfp8
OTHER_FORM = ("pcie", "nvl", "gh200", "gb200", "pci-e")  # not the boards that are described


def overlaps_tensor(cells: Cells, stack: str) -> bool:
    """Whether the tensor axis sends beside the products: as the software does, or as the row says."""
    return stack_of(stack).tensor_overlap or bool(re.search(_OVERLAP, cells.words))


def has_graphs(cells: Cells) -> bool:
    """Whether the row says that kernels are launched by CUDA graphs."""
    return bool(re.search(_GRAPHS, cells.words))


def stack_named(cells: Cells) -> str:
    """The software, by its name in `STACKS`."""
    words = cells.words
    if "mp pure" in words:
        return "fsdp-pure"
    for stack, names in STACK_WORDS:
        if any(name in words for name in names):
            return f"{stack}-eager" if "eager" in words and f"{stack}-eager" in STACKS else stack
    zero, fused = cells.text("zero"), cells.text("flash") == "1"
    split = (cells.count("tp") or 1) * (cells.count("pp") or 1) > 1
    if zero in ("2", "3"):
        return "torchtitan" if split else "fsdp" if fused else "deepspeed"
    return "megatron-core" if fused else "megatron"


def cluster_named(cells: Cells, accelerators: int) -> Cluster:
    """The cluster of so many accelerators. Raises NotModelledError where none is described."""
    words, gpu = cells.words, cells.text("gpu").lower() or ("a100-sxm-80gb" if alone(cells) else "")
    if any(form in gpu for form in OTHER_FORM):
        raise NotModelledError(f"{cells.text('gpu')} is not described")
    name = next((name for name, seen in CLUSTER_WORDS if any(word in words for word in seen)), None)
    name = name or next((name for start, name in GPU_CLUSTERS if gpu.startswith(start)), None)
    if name is None:
        raise NotModelledError(f"{cells.text('gpu') or 'no gpu'} is not described")
    known = describe(ClusterConfig(name=name))
    per_node = cells.count("gpus_per_node") or known.accelerators_per_node
    nodes = -(-accelerators // per_node)
    whole = describe(ClusterConfig(name=name, nodes=min(nodes, known.most_nodes or nodes)))
    cluster = replace(whole, nodes=nodes, accelerators_per_node=per_node)
    stated = re.search(r"(\d+)\s*gbps node", words)
    if stated:
        rate = float(stated.group(1)) * 1e9 / 8 / per_node
        tiers = (cluster.tiers[0], *(replace(tier, bytes_per_second=rate) for tier in cluster.tiers[1:]))
        cluster = replace(cluster, tiers=tiers)
    return cluster


def precision_named(cells: Cells, cluster: Cluster) -> tuple[Precision, Fp8 | None]:
    """The format of numbers, and the scaling of fp8 in the products where they are in fp8."""
    text = cells.text("precision").lower().removeprefix("amp_")
    text = text or ("fp16" if stack_named(cells) == "megatron-deepspeed" else "bf16")
    known: Mapping[str, Precision] = {str(one): one for one in get_args(Precision)}
    if text in known:
        return known[text], None
    if not re.fullmatch(FP8, text):
        raise NotModelledError(f"{text} is not modelled")
    if cluster.facts is None or "fp8" not in cluster.facts.flops_per_second:
        raise NotModelledError(f"{cluster.accelerator} has no products in fp8")
    scaling: Fp8 = "mx" if "mx" in text else "block" if re.search(r"block|sub|sc$|row", text) else "tensor"
    return "bf16", scaling
