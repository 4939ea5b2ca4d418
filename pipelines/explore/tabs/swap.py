"""Swap: two images, whose code is taken in each partition, and every combination there is."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from gated_vae.pipelines.explore import parts
from gated_vae.pipelines.explore.codes import combinations
from gated_vae.preprocessing.errors import GatedVAEError

if TYPE_CHECKING:
    from gated_vae.pipelines.explore.page import Page

MOST_PARTITIONS = 5  # whose combinations are all shown: 32
_LAYOUT = """<div class="three" id="swap-pictures"></div><div id="swap-controls"></div>
<div id="swap-boxes" class="boxes"></div><div id="swap-grid"></div>"""


class SwapTab:
    """A and B, and which partitions are taken from B."""

    name, title, layout, plots = "swap", "Swap", _LAYOUT, ()

    def __init__(self, page: Page) -> None:
        self.page, self.subject = page, page.subject
        self.asks = {
            "swap": self._swap,
            "choose": self._choose,
            "side": self._side,
            "mine": self._mine,
            "other": self._other,
        }
        self._images: dict[str, Any] = {}
        self._codes: dict[str, Any] = {}
        self._titles: dict[str, str] = {}
        self._rng = np.random.default_rng()

    def open(self) -> None:
        """Begin with two samples, or two codes of the prior."""
        if self._codes:
            return
        self._from_b = [False] * len(self.subject.its_run().partitions)
        self._from_b[-1] = True
        self._other({})
        most = len(self.subject.store) - 1 if self.subject.store else 0
        by_id = [parts.number(side, "side", "", most, side=side) for side in "AB"] if self.subject.store else []
        mine = [parts.upload(f"A picture of yours as {side}", "mine", side=side) for side in "AB"]
        self.page.show(swap_controls=parts.row(parts.button("Two others", "other"), *by_id, *mine))

    def _other(self, _message: dict[str, Any]) -> None:
        """Take two other samples."""
        run, store = self.subject.its_run(), self.subject.store
        for side in "AB":
            if store is not None:
                self._take(side, int(self._rng.integers(len(store))))
            else:
                code = self._rng.standard_normal(run.files.config.model.latent_size, dtype=np.float32)
                self._images[side], self._codes[side], self._titles[side] = (
                    run.decode(code[None])[0],
                    code,
                    "of the prior",
                )
        self._show()

    def _side(self, message: dict[str, Any]) -> None:
        """Take a sample as A or B."""
        side = "B" if message.get("side") == "B" else "A"
        self.open()
        self._take(side, parts.whole(message, "sample" if "sample" in message else "value"))
        self._show()
        if message.get("from"):
            self.page.say(f"Sample {message['sample']} is {side} in Swap.", "swap")

    def _take(self, side: str, sample: int) -> None:
        self._set(side, self.subject.image(sample), f"sample {sample}")

    def _mine(self, message: dict[str, Any]) -> None:
        self.open()
        image = parts.uploaded(message, self.subject.its_run().image_shape, self.page.largest)
        self._set("B" if message.get("side") == "B" else "A", image, str(message.get("name"))[:80])
        self._show()

    def _set(self, side: str, image: Any, title: str) -> None:
        self._images[side], self._titles[side] = image, title
        self._codes[side] = self.subject.its_run().encode(image[None]).mean[0]

    def _swap(self, message: dict[str, Any]) -> None:
        """Take one partition from B, or not."""
        number = parts.whole(message, "partition")
        if not 0 <= number < len(self._from_b):
            raise GatedVAEError(f"There is no partition {number}.")
        self._from_b[number] = message.get("value") is True
        self._show()

    def _choose(self, message: dict[str, Any]) -> None:
        """Take one of the combinations."""
        number = parts.whole(message, "combination")
        self._from_b = [bool(number >> place & 1) for place in range(len(self._from_b))]
        self._show()

    def _show(self) -> None:
        run = self.subject.its_run()
        names = [*run.partitions]
        chosen = self._codes["A"].copy()
        for from_b, part in zip(self._from_b, run.partitions.values(), strict=True):
            if from_b:
                chosen[part] = self._codes["B"][part]
        made = run.decode(chosen[None])[0]
        shown = [parts.figure(self._images[side], f"{side}: {self._titles[side]}", name=side) for side in "AB"]
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
        found = combinations(self._codes["A"], self._codes["B"], run.partitions)
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
