"""The `train` section: batch, optimizer, schedule, precision, checkpoints. Everything is counted in tokens."""

from typing import ClassVar, Literal, Self

from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveFloat, model_validator

from megalith.precision import Fp8, Precision
from megalith.recipe.base import Dimension, NonNegativeInt, PositiveInt, Section


class BatchRamp(Section):
    """The global batch grows from `start` by `increment` to `global_batch_size` over `tokens` (MT-NLG §3.2)."""

    start: Dimension
    """Sequences."""
    increment: Dimension
    """Sequences."""
    tokens: PositiveInt


class TrainConfig(Section):
    """How the model is trained."""

    model_config = ConfigDict(serialize_by_alias=True)
    LATER: ClassVar[tuple[str, ...]] = (
        "from_optimizer", "cooldown_tokens", "milestones", "keep_best", "on_spike", "spike_window", "spike_score",
        "replica_check_interval", "z_loss", "timeout_seconds", "elastic", "deterministic", "document_mask", "momentum",
        "optimizer_state", "fp8", "cuda_graphs",
    )  # fmt: skip

    tokens: PositiveInt | None = None
    """Tokens to train on. Default: what the plan found compute-optimal for the budget."""
    weights_from: str | None = Field(default=None, min_length=1, alias="from")
    """A model (a train or import artifact, or a checkpoint of a run) whose weights, and tokenizer, the run begins with;
    optimizer and schedule are new. Default: weights are drawn."""
    from_optimizer: bool = False
    """With a checkpoint in `from`: begin with its optimizer's state, too; the schedule is new."""
    global_batch_size: Dimension = 512
    """Sequences per optimizer step, over all ranks."""
    micro_batch_size: Dimension | None = None
    """Sequences per forward pass of one rank. Default: the plan chooses."""
    batch_ramp: BatchRamp | None = None
    learning_rate: PositiveFloat = 3e-4
    """Peak."""
    minimum_learning_rate: NonNegativeFloat | None = None
    """At the end of the decay. Default: a tenth of the peak."""
    schedule: Literal["cosine", "linear", "constant", "wsd", "inverse_sqrt"] = "cosine"
    warmup_tokens: NonNegativeInt | None = None
    """Default: 2 % of the training tokens."""
    decay_tokens: PositiveInt | None = None
    """Tokens after which the minimum is reached. Default: all training tokens (Chinchilla §B)."""
    cooldown_tokens: PositiveInt | None = None
    """wsd: tokens of the decay at the end. Default: a fifth of decay_tokens (2405.18392)."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: Muon on the matrices of the layers, its learning rate times 0.2 · √max(rows, columns) so that it takes
    AdamW's (2502.16982); AdamW on the rest."""
    momentum: float = Field(default=0.95, ge=0.0, lt=1.0)
    """Muon's, in Nesterov's form."""
    optimizer_state: Literal["fp32", "int8"] = "fp32"
    """int8: Adam's moments in 8 bits by blocks of 2,048, but for embeddings (2110.02861; planning alone)."""
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0)
    beta2: float = Field(default=0.95, ge=0.0, lt=1.0)
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.1
    """On matrices and embeddings alone; norms and biases are not decayed."""
    z_loss: NonNegativeFloat = 0.0
    """Weight of log² Z beside each token's loss, Z the softmax's denominator (PaLM: 1e-4). Not in validation."""
    document_mask: bool = False
    """Tokens see their own document alone, and its positions begin at 0 (Megatron-LM's reset-attention-mask and
    reset-position-ids). A document begins with the end-of-text token before it."""
    clip_norm: PositiveFloat | None = 1.0
    """Gradients are scaled down to this global norm."""
    precision: Literal["auto", Precision] = "auto"
    """auto: what the plan measured or knows to be faster. Weights and optimizer state stay fp32."""
    fp8: Fp8 | None = None
    """The layers' products in fp8 with one scale a tensor, a block of 128 or, as MXFP8, 32 numbers (planning alone)."""
    cuda_graphs: bool = False
    """A layer's kernels are launched together (planning alone)."""
    compile: bool | None = None
    """Compile each layer with torch.compile: the first step takes longer, the others less on a GPU. Default: on a GPU,
    where schedule and evaluate.every permit."""
    deterministic: bool | None = None
    """Steps are the same to the bit on every run in one layout. Default: on a CPU; a GPU's fastest kernels are not."""
    trace_steps: tuple[PositiveInt, ...] = ()
    """Steps whose every operation is written to `logs/` as a trace for Perfetto."""
    on_spike: Literal["ignore", "skip", "roll_back"] = "ignore"
    """A loss far above those before it: skip takes no step; roll_back goes back to the last checkpoint and on after the
    data that it has read since. Each is replayed first: what does not come again was a fault of the machine."""
    spike_window: int = Field(default=128, ge=8, le=100_000)
    """Steps that a loss is compared with."""
    spike_score: PositiveFloat = 8.0
    """Robust standard deviations above the window's median from which a loss is a spike."""
    replica_check_interval: NonNegativeInt = 100
    """Steps between comparisons of the weights that ranks hold alike (before each checkpoint, too); 0: never."""
    timeout_seconds: PositiveFloat | None = None
    """Seconds within which every rank must come to a collective, or the run ends with its name. Default: half an hour
    in the first step, then ten times what that took, and at least five minutes."""
    elastic: Dimension | None = None
    """Fewest ranks with which the run goes on, in the layout that the planner then finds best, when others are lost.
    Default: it ends, and the same command takes it up again."""
    validation_interval: PositiveInt = 100
    """Steps between measurements of the validation loss."""
    validation_sequences: PositiveInt = 64
    """Sequences, spread over the validation split, that are scored each time; at the end it is the whole split."""
    checkpoint_interval: PositiveInt = 100
    """Steps between checkpoints."""
    checkpoints_kept: PositiveInt = 2
    """The newest that stand while training; a finished run keeps its last. With either, those that follow stand too."""
    milestones: tuple[PositiveInt, ...] = ()
    """Steps whose checkpoints are made and kept for good."""
    keep_best: bool = False
    """Keep the checkpoint with the least validation loss, of those made at a step that was validated."""
    mirror: str | None = None
    """An address (s3://, gs://) to which each checkpoint is copied; a run whose own are gone goes on from there."""

    @model_validator(mode="after")
    def _mirrors_without_a_secret(self) -> Self:
        if self.mirror is not None and "@" in self.mirror.partition("://")[2].partition("/")[0]:
            raise ValueError("mirror holds a name or a key before its @: credentials come from the environment")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.micro_batch_size and self.global_batch_size % self.micro_batch_size:
            raise ValueError(
                f"global_batch_size {self.global_batch_size} is not a multiple of micro_batch_size "
                f"{self.micro_batch_size}"
            )
        if self.minimum_learning_rate is not None and self.minimum_learning_rate > self.learning_rate:
            raise ValueError(
                f"minimum_learning_rate {self.minimum_learning_rate} is above learning_rate {self.learning_rate}"
            )
        if self.optimizer == "adamw" and self.momentum != type(self).model_fields["momentum"].default:
            raise ValueError(
                f"momentum {self.momentum:g} is Muon's, and optimizer is adamw, which has beta1 and beta2: remove "
                "it, or set optimizer=muon"
            )
        ramp = self.batch_ramp
        if ramp and ramp.start > self.global_batch_size:
            raise ValueError(
                f"batch_ramp.start {ramp.start} is above global_batch_size {self.global_batch_size}: a ramp grows; "
                "set a smaller start, or remove batch_ramp"
            )
        if ramp and (self.global_batch_size - ramp.start) % ramp.increment:
            raise ValueError(
                f"a ramp from {ramp.start} in steps of {ramp.increment} never reaches global_batch_size "
                f"{self.global_batch_size}"
            )
        if self.from_optimizer and self.weights_from is None:
            raise ValueError("from_optimizer is set and from is missing: name the checkpoint, or leave it out")
        self._check_schedule()
        return self

    def _check_schedule(self) -> None:
        """Raise ValueError for a warm-up that never ends, and for a decay that begins within it."""
        warmup, end = self.warmup_tokens or 0, self.decay_tokens or self.tokens
        for name, tokens in (("tokens", self.tokens), ("decay_tokens", self.decay_tokens)):
            if tokens is not None and warmup >= tokens:
                raise ValueError(
                    f"warmup_tokens {warmup:,} is not below {name} {tokens:,}: the peak would not be reached before "
                    f"the end; set a shorter warm-up, or more {name}"
                )
        if self.cooldown_tokens is None:
            return
        if self.schedule != "wsd":
            raise ValueError(f"cooldown_tokens is of the schedule wsd, and schedule is {self.schedule}: remove it")
        if end is not None and warmup + self.cooldown_tokens > end:
            raise ValueError(
                f"warmup_tokens {warmup:,} and cooldown_tokens {self.cooldown_tokens:,} are more than the {end:,} "
                "tokens of the schedule: set fewer"
            )
