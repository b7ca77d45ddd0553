"""The recipe: one typed description of a whole expedition, from a YAML file and dotted overrides."""

from megalith.recipe.base import Section
from megalith.recipe.data import (
    CrawlConfig,
    CurateConfig,
    DecontaminateConfig,
    HeuristicsConfig,
    MinHashConfig,
    TaskItemsConfig,
    TokenizeConfig,
)
from megalith.recipe.judging import AuditConfig, EvaluateConfig
from megalith.recipe.loading import Origins, load_recipe, shipped_recipes
from megalith.recipe.machine import BudgetConfig, ClusterConfig, ParallelConfig
from megalith.recipe.model import ModelConfig
from megalith.recipe.training import BatchRamp, TrainConfig
from megalith.recipe.whole import Recipe

__all__ = [
    "AuditConfig",
    "BatchRamp",
    "BudgetConfig",
    "ClusterConfig",
    "CrawlConfig",
    "CurateConfig",
    "DecontaminateConfig",
    "EvaluateConfig",
    "HeuristicsConfig",
    "MinHashConfig",
    "ModelConfig",
    "Origins",
    "ParallelConfig",
    "Recipe",
    "Section",
    "TaskItemsConfig",
    "TokenizeConfig",
    "TrainConfig",
    "load_recipe",
    "shipped_recipes",
]
