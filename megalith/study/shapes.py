"""The shapes of small models: depth and width as in the plan, on a grid of sizes."""

import math
from collections.abc import Iterator

from pydantic import ValidationError

from megalith.arithmetic import parameters
from megalith.errors import RecipeError
from megalith.planning.shapes import width
from megalith.recipe import ModelConfig

RATIO = 1.6  # of a size over the next smaller one
_LARGEST_HIDDEN = 8192


def counted(model: ModelConfig) -> int:
    """Parameters with the head and without the input table."""
    count = parameters(model)
    return count.non_embedding + (count.output_projection or count.token_embedding)


class Shapes:
    """The shapes at the places of a grid of sizes: at place p the one nearest to ratio^p parameters."""

    def __init__(self, base: ModelConfig, ratio: float = RATIO) -> None:
        if not 1.1 <= ratio <= 4:
            raise RecipeError(f"sizes cannot be {ratio:g} times apart.", where="--ratio", mend="Use 1.1 to 4.")
        self.ratio = math.log(ratio)
        self.known = sorted(family(base), key=self.log_counted)
        if not self.known:
            raise RecipeError("no shape fits the recipe's other settings of the model.", where="model")
        self.lowest = math.ceil(self.log_counted(self.known[0]) / self.ratio)

    def at(self, place: int) -> ModelConfig:
        wanted = place * self.ratio
        model = self._nearest(wanted)
        if place < self.lowest or abs(self.log_counted(model) - wanted) > self.ratio / 2:
            raise RecipeError(
                f"no shape has about {math.exp(wanted):,.0f} parameters with the head, as the study needs.",
                mend="Use larger budgets, a smaller model.vocab_size, or fewer --sizes.",
            )
        return model

    def nearest(self, parameters: float) -> ModelConfig:
        """The shape nearest to so many parameters, on the grid or not."""
        return self._nearest(math.log(parameters))

    def _nearest(self, wanted: float) -> ModelConfig:
        return min(self.known, key=lambda model: abs(self.log_counted(model) - wanted) + off_rule(model))

    def nearest_place(self, log_parameters: float) -> int:
        return round(log_parameters / self.ratio)

    @staticmethod
    def log_counted(model: ModelConfig) -> float:
        return math.log(counted(model))


def family(base: ModelConfig) -> Iterator[ModelConfig]:
    """Shapes of all widths in steps of 8, 16 or 64, at the plan's depth for each and one layer more or less."""
    hidden = 16
    while hidden <= _LARGEST_HIDDEN:
        ruled = max(1, round((hidden / width(1)) ** (2 / 3)))
        head = base.head_size or (hidden if hidden < 64 else 16 if hidden % 32 else 32 if hidden < 256 else 64)
        if hidden % head == 0:
            for depth in {max(1, ruled - 1), ruled, ruled + 1}:
                shape = {"num_layers": depth, "hidden_size": hidden, "num_heads": hidden // head}
                try:
                    yield ModelConfig.model_validate({**base.model_dump(), **shape, "ffn_hidden_size": None})
                except ValidationError:  # the heads cannot share the num_kv_heads that the recipe gives
                    continue
        hidden += 8 if hidden < 64 else 16 if hidden < 256 else 64


def off_rule(model: ModelConfig) -> float:
    """How far the depth is from the rule, as much as half that difference in log N."""
    return 0.5 * abs(math.log(model.layers / max(1.0, (model.hidden / width(1)) ** (2 / 3))))
