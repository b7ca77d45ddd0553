"""The whole recipe, and the checks that look across its sections."""

from typing import Self

from pydantic import Field, model_validator

from megalith.recipe.base import NonNegativeInt, Section
from megalith.recipe.blend import BlendConfig
from megalith.recipe.data import CrawlConfig, CurateConfig, TokenizeConfig
from megalith.recipe.judging import AuditConfig, EvaluateConfig
from megalith.recipe.machine import BudgetConfig, ClusterConfig, ParallelConfig
from megalith.recipe.model import ModelConfig
from megalith.recipe.tokens import TokensConfig, mixture
from megalith.recipe.training import TrainConfig


class Recipe(Section):
    """A whole expedition."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """Letters, digits, '.', '_' and '-': the default directory is runs/NAME."""
    about: str
    """One line: what this is and where its figures come from."""
    seed: NonNegativeInt = 1234
    crawl: CrawlConfig = CrawlConfig()
    curate: CurateConfig = CurateConfig()
    tokenize: TokenizeConfig = TokenizeConfig()
    tokens: TokensConfig = TokensConfig()
    blend: BlendConfig = BlendConfig()
    budget: BudgetConfig = BudgetConfig()
    cluster: ClusterConfig = ClusterConfig()
    model: ModelConfig = ModelConfig()
    """May be left out where a corpus is all that is made."""
    parallel: ParallelConfig = ParallelConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    audit: AuditConfig = AuditConfig()

    @property
    def has_model(self) -> bool:
        """Whether the recipe says something of a model."""
        return "model" in self.model_fields_set

    @property
    def mixture(self) -> BlendConfig:
        """The shares in which a run reads its data sets: of `tokens.from` where it has weights, or else `blend`."""
        return mixture(self.tokens, self.blend)

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        model, parallel = self.model, self.parallel
        self._check_tokens()
        trains_one = not self.tokens.sources and self.tokenize.tokenizer_from is None
        if self.has_model and trains_one and self.tokenize.vocab_size != model.vocab_size:
            raise ValueError(
                f"tokenize.vocab_size is {self.tokenize.vocab_size} and model.vocab_size is {model.vocab_size}: "
                "give both the same"
            )
        if self.mixture.datasets and model.family != "gpt":
            raise ValueError(f"a {model.family} reads its corpus as one: leave out blend")
        if self.train.document_mask and model.family != "gpt":
            raise ValueError(f"a {model.family}'s samples are of one document each: leave out train.document_mask")
        if self.blend.datasets and self.curate.datasets and set(self.blend.datasets) != set(self.curate.datasets):
            name = min(set(self.blend.datasets) ^ set(self.curate.datasets))
            lacks, has = ("curate", "blend") if name in self.blend.datasets else ("blend", "curate")
            raise ValueError(f"{has}.datasets has {name} and {lacks}.datasets has not: give both or neither")
        if not self.has_model:
            return self
        if not model.is_sized and not self.budget.is_given:
            raise ValueError(
                "the model has no shape and a budget to choose one for is missing: set model.num_layers, "
                "model.hidden_size and model.num_heads, or budget.flops or budget.hours"
            )
        if model.is_sized and self.train.tokens is None and not self.budget.is_given:
            raise ValueError(
                "neither train.tokens nor budget.flops nor budget.hours says how long to train: set one of them"
            )
        if model.is_sized and parallel.tensor and model.heads % parallel.tensor:
            fitting = [str(size) for size in range(1, min(model.heads, 64) + 1) if model.heads % size == 0]
            raise ValueError(
                f"{model.heads} heads cannot be split over parallel.tensor={parallel.tensor}; "
                f"try {', '.join(fitting[:-1])} or {fitting[-1]}"
            )
        if model.is_sized and parallel.pipeline:
            stages = parallel.pipeline * parallel.virtual_stages
            if stages > model.most_stages:
                raise ValueError(
                    f"{model.layers} layers cannot fill {stages} pipeline stages, even if the first and the last have "
                    f"none; lower parallel.pipeline to {model.most_stages // parallel.virtual_stages} or less"
                )
        self._check_axes()
        if parallel.data and self.train.micro_batch_size:
            share = parallel.data * self.train.micro_batch_size
            if self.train.global_batch_size % share:
                raise ValueError(
                    f"train.global_batch_size {self.train.global_batch_size} is not a multiple of parallel.data × "
                    f"train.micro_batch_size = {parallel.data} × {self.train.micro_batch_size}"
                )
        return self

    def _check_axes(self) -> None:
        """Raise ValueError for a setting of an axis that is not there; an axis that is left open may come to be."""
        parallel = self.parallel
        if parallel.pipeline == 1 and parallel.virtual_stages > 1:
            raise ValueError(
                f"parallel.virtual_stages is {parallel.virtual_stages} and parallel.pipeline is 1: stages are those of "
                "a pipeline; set virtual_stages=1, or pipeline to 2 or more"
            )
        if parallel.tensor == 1 and parallel.sequence_parallel:
            raise ValueError(
                "parallel.sequence_parallel splits over the tensor-parallel ranks, and parallel.tensor is 1: set "
                "sequence_parallel=false, or tensor to 2 or more"
            )
        if parallel.zero_shard and not parallel.zero:
            raise ValueError(
                f"parallel.zero_shard is {parallel.zero_shard} and parallel.zero is 0, which shards nothing: remove "
                "zero_shard, or set zero to 1, 2 or 3"
            )

    def _check_tokens(self) -> None:
        if not self.tokens.sources:
            return
        if self.curate.paths:
            raise ValueError("tokens.from has shards that stand, and curate has sources: give one of them")
        if self.blend.datasets:
            raise ValueError("tokens.from says what is read: give its sources weights, and leave out blend.datasets")
