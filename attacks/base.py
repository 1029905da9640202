"""What every attack shares at its edge."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from attacks.goals import Goal, as_goal
from core.borrow import borrowed, check_images
from core.draws import Draws, as_draws


class Attack(ABC):
    """A frozen record of settings; calling it gives adversarial images."""

    __slots__ = ()

    def __call__(self, model: nn.Module, images: Tensor, goal: Goal | Tensor, draws: Draws | int = 0) -> Tensor:
        """Adversarial images, (N, C, H, W) in [0, 1].

        ``model`` maps ``images`` (N, C, H, W) in [0, 1] to logits (N, K); plain labels (N,) mean ``Untargeted``.
        An int as ``draws`` seeds one random stream per position. Raises ``AssayError`` for images outside [0, 1].
        """
        check_images(images)
        images = images.detach()
        with borrowed(model):
            settled = as_goal(goal, images).settle(model, images)
            return self.run(model, images, settled, as_draws(draws, images)).detach()

    @abstractmethod
    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        """The attack itself, on a borrowed model and a goal that names its classes."""
