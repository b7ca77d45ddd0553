"""The key that somebody meant who wrote an unknown one: by other projects' names, by section, by spelling."""

import difflib
import functools
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from megalith.recipe.base import key_of
from megalith.recipe.whole import Recipe

SYNONYMS: dict[str, str] = {
    name: key
    for key, names in {
        "budget.flops": "compute compute_budget training_flops",
        "budget.law": "scaling_law",
        "cluster.accelerators_per_node": "gpus_per_node nproc_per_node ntasks_per_node devices_per_node num_gpus gpus",
        "cluster.nodes": "nnodes num_nodes",
        "train.document_mask": "reset_attention_mask reset_position_ids intra_document_masking",
        "train.momentum": "muon_momentum sgd_momentum",
        "train.z_loss": "z_loss_multiplier moe_z_loss_coeff auxiliary_z_loss",
        "model.activation": "hidden_act activation_function act_fn swiglu mlp_type",
        "model.bias": "add_bias_linear disable_bias_linear use_bias mlp_bias",
        "model.dropout": "hidden_dropout attention_dropout resid_pdrop attn_pdrop embd_pdrop dropout_rate",
        "model.family": "architecture arch model_type flavor",
        "model.ffn_hidden_size": "intermediate_size n_inner d_ff ffn_dim mlp_dim ffn_size hidden_dim",
        "model.head_size": "head_dim kv_channels d_head",
        "model.hidden_size": "n_embd d_model dim embed_dim model_dim width emb_dim",
        "model.init_std": "initializer_range init_method_std initializer_std",
        "model.norm": "normalization norm_type rms_norm layernorm rmsnorm",
        "model.norm_epsilon": "rms_norm_eps layer_norm_eps layer_norm_epsilon layernorm_epsilon norm_eps",
        "model.num_heads": "n_head n_heads num_attention_heads attention_heads nhead heads",
        "model.num_kv_heads": "n_kv_heads num_key_value_heads num_query_groups multi_query_group_num kv_heads",
        "model.num_layers": "n_layer n_layers num_hidden_layers encoder_num_layers layers depth",
        "model.parallel_residual": "use_parallel_residual parallel_attn",
        "model.positions": "position_embedding_type rope use_rope positional_encoding position_embeddings",
        "model.qkv_bias": "add_qkv_bias attention_bias attn_bias",
        "model.query_key_norm": "qk_norm qk_layernorm use_qk_norm",
        "model.rotary_base": "rope_theta theta rotary_emb_base",
        "model.rotary_fraction": "rotary_pct rotary_percent partial_rotary_factor",
        "model.rotary_scaling": "rope_scaling rope_parameters",
        "model.sequence_length": "seq_length seq_len block_size n_positions n_ctx max_position_embeddings max_seq_len "
        "context_length max_sequence_length n_positions max_length context_size ctx_len",
        "model.sliding_window": "window_size attention_window",
        "model.tie_embeddings": "tie_word_embeddings untie_embeddings_and_output_weights weight_tying tied_embeddings "
        "enable_weight_tying",
        "model.vocab_multiple": "make_vocab_size_divisible_by pad_vocab_size_to_multiple_of pad_vocab_to_multiple_of",
        "model.vocab_size": "padded_vocab_size n_vocab vocab",
        "parallel.context": "cp context_parallel context_parallel_size context_parallel_degree ulysses cp_size",
        "parallel.data": "dp data_parallel data_parallel_size data_parallel_degree dp_size "
        "data_parallel_replicate_degree data_parallel_shard_degree",
        "parallel.pipeline": "pp pipeline_parallel pipeline_parallel_size pipeline_model_parallel_size pp_size "
        "pipeline_parallel_degree pipeline_model_parallel stages num_stages",
        "parallel.recompute": "recompute_granularity activation_checkpointing gradient_checkpointing "
        "activation_checkpoint checkpoint_activations selective_ac ac_mode recompute_activations",
        "parallel.tensor_overlap": "tp_comm_overlap enable_async_tensor_parallel async_tp",
        "train.cuda_graphs": "cuda_graph enable_cuda_graph external_cuda_graph",
        "parallel.recompute_every": "recompute_num_layers selective_ac_option",
        "parallel.schedule": "pipeline_schedule pipeline_parallel_schedule pipeline_schedule_type",
        "parallel.sequence_parallel": "sp sequence_parallelism",
        "parallel.tensor": "tp tensor_parallel tensor_parallel_size tensor_model_parallel_size tp_size "
        "tensor_parallel_degree tensor_model_parallel model_parallel",
        "parallel.virtual_stages": "virtual_pipeline_model_parallel_size interleaving num_model_chunks vp vpp "
        "num_layers_per_virtual_pipeline_stage virtual_pipeline",
        "parallel.zero": "fsdp zero_stage zero_optimization sharding_strategy use_distributed_optimizer "
        "distributed_optimizer fully_sharded_data_parallel",
        "parallel.zero_shard": "hybrid_shard hsdp replicate_degree shard_degree",
        "seed": "random_seed manual_seed rng_seed",
        "tokenize.vocab_size": "tokenizer_vocab_size",
        "train.batch_ramp": "rampup_batch_size batch_size_rampup",
        "train.beta1": "adam_beta1 b1",
        "train.beta2": "adam_beta2 b2",
        "train.checkpoint_interval": "save_interval save_steps save_every checkpoint_every ckpt_interval",
        "train.checkpoints_kept": "save_total_limit keep_latest_k",
        "train.clip_norm": "clip_grad max_grad_norm grad_clip gradient_clipping max_norm gradient_clip clip grad_norm",
        "train.compile": "torch_compile use_compile jit",
        "train.decay_tokens": "lr_decay_samples lr_decay_iters lr_decay_tokens decay_steps max_decay_steps decay_iters",
        "train.deterministic": "deterministic_mode use_deterministic_algorithms cudnn_deterministic",
        "train.epsilon": "adam_eps eps adam_epsilon",
        "train.global_batch_size": "batch_size train_batch_size bs batch total_batch_size global_bs",
        "train.learning_rate": "lr max_lr peak_lr",
        "train.micro_batch_size": "local_batch_size per_device_train_batch_size train_micro_batch_size_per_gpu "
        "micro_bs mbs device_batch_size per_device_batch_size microbatch_size",
        "train.minimum_learning_rate": "min_lr end_lr final_lr lr_min min_learning_rate minimum_lr",
        "train.optimizer": "optim optimizer_name",
        "train.precision": "dtype bf16 fp16 amp mixed_precision torch_dtype data_type mixed_precision_param",
        "train.schedule": "lr_decay_style lr_scheduler lr_scheduler_type scheduler lr_schedule",
        "train.tokens": "train_tokens max_tokens num_tokens training_tokens train_samples total_tokens",
        "train.trace_steps": "profile profile_steps profiler",
        "train.validation_interval": "eval_interval eval_steps eval_every val_interval evaluation_interval",
        "train.validation_sequences": "eval_iters val_batches eval_batches",
        "train.warmup_tokens": "warmup_steps warmup lr_warmup_samples lr_warmup_iters warmup_iters lr_warmup_tokens "
        "warmup_ratio warmup_fraction",
        "train.weight_decay": "wd decay",
        "curate.languages": "language lang langs",
        "curate.sources": "data dataset input inputs train_data corpus dataset_path",
        "tokens.from": "data_path train_data_path data_prefix data_prefixes bin_path",
        "tokens.tokenizer": "tokenizer_model tokenizer_path vocab_file merge_file tokenizer_name_or_path",
        "tokens.validation": "valid_data_path validation_data_path",
        "tokens.validation_share": "split",
        "evaluate.shots": "num_fewshot n_shot fewshot few_shot",
        "evaluate.tasks": "benchmarks eval_tasks",
        "evaluate.items": "limit eval_limit num_eval_samples max_samples",
        "evaluate.data": "eval_data task_path tasks_dir",
        "evaluate.shot_seed": "fewshot_seed fewshot_random_seed",
        "evaluate.stride": "overlapping_eval",
        "evaluate.texts": "eval_texts",
    }.items()
    for name in names.split()
}
"""Names of Megatron-LM, torchtitan, DeepSpeed, nanoGPT and Hugging Face, and the key here."""

COUNTED_IN_TOKENS = "Lengths are counted in tokens: steps × global_batch_size × sequence_length."
NOT_BUILT: dict[str, str] = {
    name: sentence
    for names, sentence in (
        (
            "ring_attention context_parallel_rotate_method",
            "Ring attention is planned (parallel.context_method=ring), not yet trained; all_to_all is.",
        ),
        (
            "num_experts num_local_experts n_experts moe moe_top_k ep expert_parallel n_routed_experts "
            "expert_model_parallel_size expert_parallel_degree num_experts_per_tok moe_router_topk router "
            "moe_intermediate_size n_shared_experts first_k_dense_replace",
            "Mixtures of experts are planned (model.experts, experts_per_token, expert_hidden_size, shared_experts, "
            "dense_layers; parallel.expert), not yet trained.",
        ),
        (
            "train_iters max_steps steps num_steps max_iters iterations iters total_steps",
            f"Set train.tokens. {COUNTED_IN_TOKENS}",
        ),
        ("epochs num_epochs num_train_epochs max_epochs", f"Set train.tokens. {COUNTED_IN_TOKENS}"),
        (
            "gradient_accumulation_steps grad_accum gradient_accumulation accumulate_grad_batches",
            "Gradients are accumulated as train.global_batch_size, train.micro_batch_size and parallel.data imply.",
        ),
        (
            "fp8 fp8_recipe fp8_format float8 enable_fp8_linear mxfp8",
            "fp8 is planned (train.fp8: tensor, block or mx), not yet trained.",
        ),
        ("int8 quantization quantize", "Training in 8 bits is not built; train.precision is fp32, bf16 or fp16."),
        ("lora peft adapter lora_rank", "Adapters such as LoRA are not built; all weights are trained."),
        (
            "offload cpu_offload optimizer_offload",
            "Offloading is planned (parallel.offload_optimizer), not yet trained.",
        ),
        (
            "flash_attention use_flash_attn attn_implementation flash_attn",
            "No key is needed: attention uses torch's fused kernels.",
        ),
        ("wandb tensorboard logger", "No key is needed: every run writes TensorBoard events to train/logs."),
        ("resume resume_from load load_checkpoint", "No key is needed: the same command resumes from the checkpoint."),
        ("output output_dir save save_dir out_dir", "Set the place with the option --output."),
    )
    for name in names.split()
}


def hint(location: Sequence[str], value: Any = None) -> str:
    """A sentence on the unknown key at `location`: the key meant, what is not built, or the keys of the section.

    `value` is what was set there; of an unknown section, its first key is looked up too (`optimizer.lr`).
    """
    *section, last = location
    keys = known_keys(section)
    near = _by_spelling(last, keys, 0.75)
    if isinstance(value, dict) and value:
        found = near or _by_name(str(next(iter(value)))) or _by_name(last)
    else:
        found = _by_name(last) or near
    found = found or _by_spelling(last, keys, 0.5) or _by_spelling(last, _by_last_part(), 0.8)
    if found is not None:
        return found
    known = f"the section {'.'.join(section)}" if section else "a recipe"
    return f"The keys of {known} are {', '.join(keys)}." if keys else "Remove it."


def _by_name(written: str) -> str | None:
    """By the name alone, whichever section it was written in."""
    name = written.lower().replace("-", "_").strip("_")
    if name in NOT_BUILT:
        return NOT_BUILT[name]
    meant = SYNONYMS.get(name) or _by_last_part().get(name)
    return None if meant is None else f"Did you mean {meant}?"


def _by_spelling(written: str, keys: Sequence[str] | Mapping[str, str], cutoff: float) -> str | None:
    close = difflib.get_close_matches(written, keys, n=1, cutoff=cutoff)
    if not close:
        return None
    return f"Did you mean {keys[close[0]] if isinstance(keys, Mapping) else close[0]}?"


@functools.cache
def _by_last_part() -> Mapping[str, str]:
    """The dotted key of each last part; of several, the one in the outermost section."""
    leaves = sorted(_leaves(Recipe, ""), key=lambda dotted: -dotted.count("."))
    return {dotted.rpartition(".")[2]: dotted for dotted in leaves}


def known_keys(location: Sequence[str]) -> list[str]:
    """The keys that the section at `location` knows; a name of the user's own (a data set) is passed through."""
    section: type[BaseModel] = Recipe
    parts = iter(location)
    for part in parts:
        field = section.model_fields.get(part)
        if field is None:
            return []
        inner = _section_of(field.annotation)
        if inner is None:
            inner = _section_of_named(field.annotation)
            next(parts, None)
        if inner is None:
            return []
        section = inner
    return [key_of(section, name) for name in section.model_fields]


def _leaves(section: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        key = f"{prefix}{key_of(section, name)}"
        yield key
        inner = _section_of(field.annotation)
        if inner is not None:
            yield from _leaves(inner, f"{key}.")


def _section_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next((found for arg in typing.get_args(annotation) if (found := _section_of(arg))), None)
    return None


def _section_of_named(annotation: Any) -> type[BaseModel] | None:
    """The section that a mapping by the user's names holds."""
    arguments = typing.get_args(annotation)
    return _section_of(arguments[1]) if len(arguments) == 2 and arguments[0] is str else None
