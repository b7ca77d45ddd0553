"""Whether a layout can be at all: it is refused before a process starts, with what would make it fit.

What is slow and not impossible comes back as notes. What a model or a batch must be apart from any layout is said where
the recipe is read.
"""

import math

from megalith.batches import micro_batch_multiple, micro_batches, ramp_batches
from megalith.errors import RecipeError, UnsupportedError
from megalith.recipe.machine import ParallelConfig
from megalith.recipe.model import ModelConfig
from megalith.recipe.training import TrainConfig
from megalith.topology.clusters import Cluster
from megalith.topology.layout import Layout


def check_layout(
    cluster: Cluster, layout: Layout, model: ModelConfig, parallel: ParallelConfig, train: TrainConfig
) -> list[str]:
    """Notes on what will be slow. Raises RecipeError for a layout that cannot be.

    The axes' sizes are `layout`'s; of `parallel` its schedule, virtual stages and sequence parallelism count. The model
    is sized. A micro-batch size that is left open is taken for 1.
    """
    _check_experts(model, parallel, layout)
    _check_world(cluster, layout)
    _check_tensor(layout, model, sequence_parallel=parallel.sequence_parallel)
    _check_context(model, parallel, layout)
    _check_stages(layout.pipeline, parallel.virtual_stages, model)
    _check_batch(layout, train)
    if parallel.schedule_file is None:
        _check_rounds(layout, parallel, train)
    return _notes(cluster, layout, parallel, train)


def _check_context(model: ModelConfig, parallel: ParallelConfig, layout: Layout) -> None:
    """Even parts of the sequence, two a rank for a ring's causal mask; and whole heads, where heads are exchanged."""
    context, by_heads = layout.context, parallel.context_method == "all_to_all"
    if context == 1:
        return
    parts = context if by_heads else 2 * context
    if model.sequence_length % parts:
        raise RecipeError(
            f"a sequence of {model.sequence_length} tokens cannot be split into {parts} even parts, "
            f"{'one' if by_heads else 'two'} for each of context={context}.",
            where="parallel.context",
            mend=f"Set a model.sequence_length that is a multiple of {parts}, or a smaller context.",
        )
    if by_heads and model.heads % (layout.tensor * context):
        raise RecipeError(
            f"{model.heads} heads cannot be dealt to tensor × context = {layout.tensor} × {context} ranks.",
            where="parallel.context",
            mend=f"Try {_divisors(model.heads // layout.tensor)}, or a smaller parallel.tensor.",
        )


def _check_experts(model: ModelConfig, parallel: ParallelConfig, layout: Layout) -> None:
    expert = parallel.expert or 1
    if expert == 1:
        return
    if not model.experts:
        raise RecipeError(
            f"expert={expert} shares experts, and the model has none.",
            where="parallel.expert",
            mend="Leave it out, or set model.experts.",
        )
    shared = math.gcd(model.experts, layout.data)
    if shared % expert:
        raise RecipeError(
            f"{model.experts} experts over {layout.data} data ranks cannot be shared by {expert}.",
            where="parallel.expert",
            mend=f"Try {_divisors(shared)}.",
        )


def refuse_planned_settings(model: ModelConfig, parallel: ParallelConfig, train: TrainConfig) -> None:
    """Raise UnsupportedError for settings that `plan layout` and `plan explain` know and nothing else does."""
    for key, given, mend in (
        ("model.experts", model.experts is not None, "Leave it out; `megalith plan layout` answers for it."),
        ("parallel.expert", (parallel.expert or 1) > 1, "Leave it out."),
        ("parallel.offload_optimizer", parallel.offload_optimizer, "Set it to false, and parallel.zero=1 or more."),
        ("parallel.tensor_overlap", parallel.tensor_overlap, "Set it to false."),
        ("train.fp8", train.fp8 is not None, "Leave it out."),
        ("train.cuda_graphs", train.cuda_graphs, "Set it to false."),
        ("train.optimizer_state", train.optimizer_state != "fp32", "Set it to fp32, and parallel.zero=1 or more."),
    ):
        if given:
            raise UnsupportedError(f"{key} can be planned, not yet trained.", where=key, mend=mend)
    if (parallel.context or 1) > 1 and not trains_context(model, parallel):
        if parallel.context_method == "ring":
            what, where, mend = "the method ring", "parallel.context_method", "Set it to all_to_all."
        else:
            what = f"a {model.family} model" if model.family != "gpt" else "model.dropout"
            where = "parallel.context"
            mend = "Set it to 1, and save memory by parallel.sequence_parallel or parallel.recompute."
        raise UnsupportedError(f"parallel.context with {what} can be planned, not yet trained.", where=where, mend=mend)


def trains_context(model: ModelConfig, parallel: ParallelConfig) -> bool:
    """Whether training has ranks share the samples of such a model, by the method that `parallel` names.

    A BERT model's padding and the draws of dropout are not cut by tokens.
    """
    return parallel.context_method == "all_to_all" and model.family == "gpt" and model.dropout == 0


def _check_world(cluster: Cluster, layout: Layout) -> None:
    if cluster.takes_any_world or layout.world == cluster.accelerators:
        return
    mends = []
    if cluster.accelerators % layout.replica == 0:
        mends.append(f"parallel.data={cluster.accelerators // layout.replica}")
    nodes, rest = divmod(layout.world, cluster.accelerators_per_node)
    if rest == 0 and nodes <= (cluster.most_nodes or nodes):
        mends.append(f"cluster.nodes={nodes}")
    if not mends:
        step = math.lcm(layout.replica, cluster.accelerators_per_node) // cluster.accelerators_per_node
        mends.append(f"a cluster.nodes that is a multiple of {step}, and a parallel.data that fills them")
    shared = f" × context {layout.context}" if layout.context > 1 else ""
    raise RecipeError(
        f"pipeline {layout.pipeline} × data {layout.data}{shared} × tensor {layout.tensor} is {layout.world} ranks, "
        f"and {cluster.nodes} nodes of {cluster.accelerators_per_node} are {cluster.accelerators}.",
        where="parallel",
        mend=f"Set {' or '.join(mends)}.",
    )


def _check_tensor(layout: Layout, model: ModelConfig, *, sequence_parallel: bool) -> None:
    """Whole heads of queries on each rank; neither the heads of keys nor the vocabulary need come out even."""
    tensor, parts_of_sequence = layout.tensor, layout.tensor * layout.context
    parts = {
        "num_heads": (model.heads, "heads"),
        "ffn_hidden_size": (model.ffn_hidden, "columns of the MLP"),
    }
    for key, (count, words) in parts.items():
        if count % tensor:
            raise RecipeError(
                f"model.{key} is {count}: {count} {words} cannot be split over tensor={tensor}.",
                where="parallel.tensor",
                mend=f"Try {_divisors(math.gcd(model.heads, model.ffn_hidden))}.",
            )
    if sequence_parallel and model.sequence_length % parts_of_sequence:
        over = f"tensor={tensor}" + (f" × context={layout.context}" if layout.context > 1 else "")
        raise RecipeError(
            f"a sequence of {model.sequence_length} tokens cannot be split over {over}.",
            where="parallel.sequence_parallel",
            mend=f"Set a model.sequence_length that is a multiple of {parts_of_sequence}, or "
            "parallel.sequence_parallel=false.",
        )


def _check_stages(pipeline: int, virtual_stages: int, model: ModelConfig) -> None:
    stages, most = pipeline * virtual_stages, model.most_stages
    if stages > most:
        fewer = most // virtual_stages
        mend = f"parallel.pipeline={fewer} or less" if fewer else f"parallel.virtual_stages={most // pipeline or 1}"
        raise RecipeError(
            f"{model.layers} layers cannot fill {stages} stages (pipeline {pipeline} × virtual {virtual_stages}), even "
            "if the first and the last have none.",
            where="parallel.pipeline",
            mend=f"Set {mend}.",
        )


def _check_batch(layout: Layout, train: TrainConfig) -> None:
    """That the full batch is whole micro-batches on every replica; those of a ramp need not be."""
    micro, batch = train.micro_batch_size or 1, train.global_batch_size
    if batch % (layout.data * micro) == 0:
        return
    fitting = [data for data in range(1, layout.data + 1) if batch % (data * micro) == 0]
    mend = f"parallel.data={fitting[-1]}" if fitting else f"a train.micro_batch_size that divides {batch}"
    raise RecipeError(
        f"a batch of {batch} is not a multiple of data × micro-batch = {layout.data} × {micro}.",
        where="train.global_batch_size",
        mend=f"Set {mend}, or another batch.",
    )


def _check_rounds(layout: Layout, parallel: ParallelConfig, train: TrainConfig) -> None:
    """Whether the micro-batches fill whole rounds of the interleaved schedule."""
    micro = train.micro_batch_size or 1
    count = micro_batches(train.global_batch_size, layout.data, micro)
    if count % micro_batch_multiple(parallel.schedule, layout.pipeline):
        raise RecipeError(
            f"interleaved-1f1b wants micro-batches in multiples of pipeline={layout.pipeline}, and a batch of "
            f"{train.global_batch_size} gives {count}.",
            where="parallel.schedule",
            mend=f"Set 1f1b, or a batch that is a multiple of {layout.pipeline * layout.data * micro}.",
        )


def _notes(cluster: Cluster, layout: Layout, parallel: ParallelConfig, train: TrainConfig) -> list[str]:
    notes = []
    if cluster.takes_any_world and layout.world > cluster.accelerators:
        notes.append(f"{layout.world} ranks share {cluster.accelerators} accelerators of this machine.")
    wide = [group for group in layout.groups("tensor") if len({cluster.node(rank) for rank in group}) > 1]
    if wide:
        notes.append(
            f"{len(wide)} of {layout.world // layout.tensor} tensor groups cross from node to node: with "
            f"{cluster.accelerators_per_node} accelerators a node, tensor={layout.tensor} will be slow."
        )
    share = layout.data * (train.micro_batch_size or 1)
    ramp = ramp_batches(train)
    period = share // math.gcd(ramp.step, share)  # what is left over repeats, and weighs most in the smallest batches
    uneven = [size for size in ramp[:period] if size % share]
    if uneven:
        empty = max((-size % share) / (size + -size % share) for size in uneven)
        even = sum(len(ramp[place::period]) for place, size in enumerate(ramp[:period]) if size % share == 0)
        notes.append(
            f"{len(ramp) - even} batches of the ramp are no multiples of data × micro-batch = {share}: they are filled "
            f"up with samples that do not count, up to {empty:.0%} of what is computed."
        )
    count = micro_batches(train.global_batch_size, layout.data, train.micro_batch_size or 1)
    if count < layout.pipeline:
        idle = (layout.pipeline - 1) / (parallel.virtual_stages * count + layout.pipeline - 1)
        notes.append(
            f"{count} micro-batches do not fill a pipeline of {layout.pipeline}: with 1f1b each rank is idle "
            f"for {idle:.0%} of the step."
        )
    return notes


def _divisors(number: int) -> str:
    found = [str(size) for size in range(1, min(number, 64) + 1) if number % size == 0]
    return f"{', '.join(found[:-1])} or {found[-1]}" if len(found) > 1 else found[0]
