"""The recipe: one typed description of a whole expedition, from a YAML file and dotted overrides."""

from megalith.recipe.base import Section
from megalith.recipe.blend import BlendConfig, BlendedConfig
from megalith.recipe.data import (
    CrawlConfig,
    CurateConfig,
    DatasetConfig,
    DecontaminateConfig,
    TaskItemsConfig,
    TaskTextConfig,
    TokenizeConfig,
)
from megalith.recipe.filters import CleanConfig, PrivateConfig, QualityConfig, RepeatsConfig, UrlConfig
from megalith.recipe.heuristics import HeuristicsConfig
from megalith.recipe.judging import AuditConfig, EvaluateConfig
from megalith.recipe.loading import Origins, Overrides, load_recipe, shipped_recipes
from megalith.recipe.machine import BudgetConfig, ClusterConfig, ParallelConfig
from megalith.recipe.minhash import MinHashConfig
from megalith.recipe.model import ModelConfig
from megalith.recipe.rotary import RotaryScaling
from megalith.recipe.semantic import SemanticConfig
from megalith.recipe.tokens import TokensConfig, TokenSource
from megalith.recipe.training import BatchRamp, TrainConfig
from megalith.recipe.whole import Recipe

__all__ = [
    "AuditConfig",
    "BatchRamp",
    "BlendConfig",
    "BlendedConfig",
    "BudgetConfig",
    "CleanConfig",
    "ClusterConfig",
    "CrawlConfig",
    "CurateConfig",
    "DatasetConfig",
    "DecontaminateConfig",
    "EvaluateConfig",
    "HeuristicsConfig",
    "MinHashConfig",
    "ModelConfig",
    "Origins",
    "Overrides",
    "ParallelConfig",
    "PrivateConfig",
    "QualityConfig",
    "Recipe",
    "RepeatsConfig",
    "RotaryScaling",
    "Section",
    "SemanticConfig",
    "TaskItemsConfig",
    "TaskTextConfig",
    "TokenSource",
    "TokenizeConfig",
    "TokensConfig",
    "TrainConfig",
    "UrlConfig",
    "load_recipe",
    "shipped_recipes",
]
