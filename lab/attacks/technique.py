"""What a technique declares about itself, and the decorator that makes one of a function drawing an attack.

The declaration is what a plan may rely on before anything is drawn: class, tool, speeds, sides, spoofing. The trap: it
is a promise about every attack that the function may draw, and the tests hold it to that over many seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from contracts.classes import NAMES, class_of_label
from lab.attacks.scene import Scene
from lab.plan import Attack

Side = Literal["inside", "outside"]
BOTH: tuple[Side, ...] = ("inside", "outside")


@dataclass(frozen=True, kw_only=True)
class Technique:
    """One way to attack; calling it with a scene draws one bounded `Attack`.

    `per_s` are the slowest and the fastest drawn: packets, connections, requests or messages a second, whatever the
    technique repeats. `labels` are all labels it may draw, of one class. `needs` are kinds of services, any of which
    a victim must have; empty where any host will do.
    """

    name: str
    about: str
    labels: tuple[str, ...]
    mitre: str | None
    tool: str
    per_s: tuple[float, float]
    sides: tuple[Side, ...]
    spoofed: Literal["never", "sometimes", "always"]
    needs: tuple[str, ...]
    draw: Callable[[Scene], Attack]

    @property
    def attack_class(self) -> str:
        """The name of its class in the one table of classes."""
        return NAMES[class_of_label(self.labels[0])]

    def __call__(self, scene: Scene) -> Attack:
        """Draw one attack; raises NoVictim where the scene has nobody it could be drawn against."""
        return self.draw(scene)


def technique(
    *labels: str,
    mitre: str | None,
    tool: str,
    per_s: tuple[float, float],
    sides: tuple[Side, ...] = BOTH,
    spoofed: Literal["never", "sometimes", "always"] = "never",
    needs: tuple[str, ...] = (),
) -> Callable[[Callable[[Scene], Attack]], Technique]:
    """Make a drawing function a technique of the function's name."""

    def make(draw: Callable[[Scene], Attack]) -> Technique:
        return Technique(
            name=draw.__name__,
            about=(draw.__doc__ or "").partition("\n")[0],
            labels=labels,
            mitre=mitre,
            tool=tool,
            per_s=per_s,
            sides=sides,
            spoofed=spoofed,
            needs=needs,
            draw=draw,
        )

    return make
