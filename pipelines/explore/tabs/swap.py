"""Swap: two images, whose code is taken in each partition, and every combination there is."""

from __future__ import annotations

from html import escape
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gated_vae.pipelines.explore import parts
from gated_vae.pipelines.explore.codes import combinations, mixed
from gated_vae.pipelines.explore.tabs.base import Ask, Tab
from gated_vae.preprocessing.errors import GatedVAEError

MOST_PARTITIONS = 5  # whose combinations are all shown: 32
_LAYOUT = """<div class="three" id="swap-pictures"></div><div id="swap-controls"></div>
<div id="swap-boxes" class="boxes"></div><div id="swap-grid"></div>"""


class Side(NamedTuple):
    """One of the two images, its code and what it is called."""

    image: npt.NDArray[Any]
    code: npt.NDArray[np.float32]
    title: str


class SwapTab(Tab):
    """A and B, and which partitions are taken from B."""

    name, title, layout = "swap", "Swap", _LAYOUT

    def open(self) -> None:
        """Begin with two samples, or two codes of the prior."""
        self._rng, self._sides = np.random.default_rng(), dict[str, Side]()
        self._from_b = [False] * len(self.subject.its_run().partitions)
        self._from_b[-1] = True
        self._ask_other({})
        most = len(self.subject.store) - 1 if self.subject.store else 0
        by_id = [parts.number(side, "side", "", most, side=side) for side in "AB"] if self.subject.store else []
        mine = [parts.upload(f"A picture of yours as {side}", "mine", side=side) for side in "AB"]
        self.page.show(swap_controls=parts.row(parts.button("Two others", "other"), *by_id, *mine))

    def _ask_other(self, _message: Ask) -> None:
        """Take two other samples."""
        run, store = self.subject.its_run(), self.subject.store
        for side in "AB":
            if store is not None:
                self._take(side, int(self._rng.integers(len(store))))
            else:
                code = self._rng.standard_normal(run.files.config.model.latent_size, dtype=np.float32)
                self._sides[side] = Side(run.decode(code[None])[0], code, "of the prior")
        self._show()

    def _ask_side(self, message: Ask) -> None:
        """Take a sample as A or B."""
        side = "B" if message.get("side") == "B" else "A"
        self._take(side, parts.sample_of(message))
        self._show()
        if message.get("elsewhere"):
            self.page.say(f"Sample {message['sample']} is {side} in Swap.", "swap")

    def _take(self, side: str, sample: int) -> None:
        self._set(side, self.subject.image(sample), f"sample {sample}")

    def _ask_mine(self, message: Ask) -> None:
        image = parts.uploaded(message, self.subject.its_run().image_shape, self.page.largest)
        self._set("B" if message.get("side") == "B" else "A", image, str(message.get("name"))[:80])
        self._show()

    def _set(self, side: str, image: Any, title: str) -> None:
        self._sides[side] = Side(image, self.subject.its_run().encode(image[None]).mean[0], title)

    def _ask_swap(self, message: Ask) -> None:
        """Take one partition from B, or not."""
        number = parts.whole(message, "partition")
        if not 0 <= number < len(self._from_b):
            raise GatedVAEError(f"There is no partition {number}.")
        self._from_b[number] = message.get("value") is True
        self._show()

    def _ask_choose(self, message: Ask) -> None:
        """Take one of the combinations."""
        number = parts.whole(message, "combination")
        self._from_b = [bool(number >> place & 1) for place in range(len(self._from_b))]
        self._show()

    def _show(self) -> None:
        run = self.subject.its_run()
        names = [*run.partitions]
        a, b = self._sides["A"], self._sides["B"]
        made = run.decode(mixed(a.code, b.code, run.partitions, self._from_b)[None])[0]
        shown = [parts.figure(it.image, f"{side}: {it.title}", name=side) for side, it in (("A", a), ("B", b))]
        boxes = "".join(
            f'<label style="--accent: {self.subject.colours[name]}"><input type="checkbox"{" checked" * self._from_b[i]}'
            f' {parts.ask("swap", partition=i)}><i class="dot"></i>{escape(name)} of B</label> '
            for i, name in enumerate(names)
        )
        self.page.show(
            swap_pictures="".join(shown) + parts.figure(made, "swapped", name="swapped"),
            swap_boxes=boxes,
            swap_grid=self._grid(names),
        )

    def _grid(self, names: list[str]) -> str:
        """Every combination as a button that chooses it."""
        if len(names) > MOST_PARTITIONS:
            return parts.note_of(
                f"With more than {MOST_PARTITIONS} partitions the combinations are too many to be shown."
            )
        run, colours = self.subject.its_run(), self.subject.colours
        found = combinations(self._sides["A"].code, self._sides["B"].code, run.partitions)
        cells = []
        for choice, image in zip(found, run.decode(np.stack([*found.values()])), strict=True):
            whose = "".join(
                f'<span><i class="dot" style="--accent: {colours[name]}"></i>{escape(name)} {"AB"[from_b]}</span>'
                for name, from_b in zip(names, choice, strict=True)
            )
            number = sum(from_b << place for place, from_b in enumerate(choice))
            pressed = str([*choice] == self._from_b).lower()
            told = f'type="button" aria-pressed="{pressed}" data-combination="{number}"'
            picture = parts.img(image, f"combination {number}")
            cells.append(f"<button {told} {parts.ask('choose', combination=number)}>{picture}{whose}</button>")
        return f'<h2>All combinations</h2><div class="grid">{"".join(cells)}</div>'
