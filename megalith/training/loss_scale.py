"""The loss scale of fp16.

Masters, gradients' sums and the optimizer stay in fp32 whatever the layers compute in (MT-NLG §2; 1710.03740). fp16 has
so few exponents that small gradients would vanish: the loss is multiplied by a scale, halved whenever a gradient
overflows and doubled after a while without.
"""

from dataclasses import dataclass

FIRST_SCALE = 2.0**16
GROWTH_INTERVAL = 1000  # steps without overflow before the scale doubles (Megatron-LM's loss-scale-window)
HYSTERESIS = 2  # overflows that are borne before the scale is halved (Megatron-LM)
SMALLEST, LARGEST = 1.0, 2.0**24


@dataclass
class LossScale:
    """The factor of the loss. Every rank has the same one: they decide by the same global norm."""

    scale: float = 1.0
    grows: bool = False
    since_overflow: int = 0
    patience: int = HYSTERESIS

    def update(self, *, finite: bool) -> None:
        """Grow or shrink by the outcome of a step."""
        if not self.grows:
            return
        if finite:
            self.since_overflow += 1
            if self.since_overflow >= GROWTH_INTERVAL:
                self.scale, self.since_overflow = min(LARGEST, self.scale * 2), 0
                self.patience = HYSTERESIS
            return
        self.since_overflow = 0
        self.patience -= 1
        if self.patience <= 0:
            self.scale = max(SMALLEST, self.scale / 2)


def loss_scale(precision: str) -> LossScale:
    """fp16's first scale; 1 for the others."""
    return LossScale(FIRST_SCALE, grows=True) if precision == "fp16" else LossScale()
