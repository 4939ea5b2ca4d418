"""Latent: one code, a slider for each of its dimensions, the image that it decodes to, and what one dimension does to it."""

from __future__ import annotations

from html import escape

import numpy as np
import numpy.typing as npt

from gated_vae.models.figures.grids import signed
from gated_vae.pipelines.evaluation.opened import DEAD_KL
from gated_vae.pipelines.explore import parts
from gated_vae.pipelines.explore.codes import REACH, STEPS, Dimension, dimensions, traversed
from gated_vae.pipelines.explore.tabs.base import Ask, Tab
from gated_vae.preprocessing.errors import GatedVAEError

THUMBNAILS = 24
MOST_SLIDERS = 256
_LAYOUT = """<div class="two"><div class="sticky"><div class="pair" id="latent-pictures"></div><div id="latent-strip"></div></div>
<div class="tall"><div id="latent-controls"></div><div id="latent-sliders"></div></div><div id="latent-pick"></div></div>"""


class LatentTab(Tab):
    """The code that is shown, what it was encoded from, and the dimension that was touched last."""

    name, title, layout = "latent", "Latent", _LAYOUT

    def open(self) -> None:
        """Show the typical image of the store, or the code in the middle of the prior."""
        run = self.subject.its_run()
        self._rng = np.random.default_rng()
        self._dimensions = dimensions(run.partitions, self.subject.kl(), DEAD_KL)
        self._touched = self._dimensions[0].number
        self._show_controls()
        if self.subject.store is None:
            self._start(None, np.zeros(len(self._dimensions), np.float32), "the middle of the prior")
            self.page.say(f"{self.subject.missing} Codes can be chosen, and pictures of your own be encoded.")
            return
        ids, codes = run.sampled
        self._take(int(ids[codes.typical()]))
        self._ask_thumbnails({})

    def _take(self, sample: int) -> None:
        image = self.subject.image(sample)
        self._start(image, self.subject.its_run().encode(image[None]).mean[0], f"sample {sample}")

    def _start(self, image: npt.NDArray[np.uint8] | None, code: npt.NDArray[np.float32], title: str) -> None:
        """Begin anew from a code, and the image that it is of."""
        self._image, self._origin, self._title = image, code, title
        self._ask_reset({})

    def _ask_reset(self, _message: Ask) -> None:
        self._code = self._origin.copy()
        self._show_sliders()
        self._show_picture()
        self._show_strip()

    def _ask_random(self, _message: Ask) -> None:
        size = len(self._dimensions)
        self._start(None, self._rng.standard_normal(size, dtype=np.float32).clip(-REACH, REACH), "drawn from the prior")

    def _ask_encode(self, message: Ask) -> None:
        self._take(parts.sample_of(message))
        if message.get("elsewhere"):
            self.page.say(f"Sample {message['sample']} is in Latent.", "latent")

    def _ask_upload(self, message: Ask) -> None:
        run = self.subject.its_run()
        image = parts.uploaded(message, run.image_shape, self.page.largest)
        self._start(image, run.encode(image[None]).mean[0], str(message.get("name"))[:80])

    def _ask_thumbnails(self, _message: Ask) -> None:
        store = self.subject.its_store()
        ids = self._rng.integers(0, len(store), min(THUMBNAILS, len(store)))
        again = parts.button("Others", "thumbnails")
        sheet = parts.sheet(sorted({*ids.tolist()}), self.subject.version, "encode")
        self.page.show(latent_pick=f"<h2>Encode one of these {again}</h2>{sheet}")

    def _ask_slide(self, message: Ask) -> None:
        self._ask_touch(message)
        self._code[self._touched] = np.clip(parts.real(message), -REACH, REACH)
        self._show_picture()

    def _ask_touch(self, message: Ask) -> None:
        """Show the strip of a dimension; it stays the same while that dimension alone moves."""
        index = parts.whole(message, "dimension")
        if not 0 <= index < len(self._dimensions):
            raise GatedVAEError(f"There is no dimension {index}.", "", "Move a slider.")
        if index != self._touched:
            self._touched = index
            self._show_strip()

    def _show_controls(self) -> None:
        most = len(self.subject.store) - 1 if self.subject.store else 0
        by_id = parts.number("Sample", "encode", "", most) if self.subject.store else ""
        mine = parts.upload("A picture of yours", "upload")
        buttons = parts.button("Reset", "reset"), parts.button("Random", "random")
        self.page.show(latent_controls=parts.row(*buttons, by_id, mine))

    def _show_picture(self) -> None:
        made = self.subject.its_run().decode(self._code[None])[0]
        original = parts.figure(self._image, self._title, name="original")
        self.page.show(latent_pictures=original + parts.figure(made, "decoded", name="decoded"))

    def _show_strip(self) -> None:
        values = np.linspace(-REACH, REACH, STEPS, dtype=np.float32)
        images = self.subject.its_run().decode(traversed(self._code, self._touched, values))
        partition = next(it.partition for it in self._dimensions if it.number == self._touched)
        title = f"<h2>{escape(partition)} z{self._touched} from \N{MINUS SIGN}3 to +3</h2>"
        titles = [signed(value) for value in values]
        self.page.show(latent_strip=title + parts.strip(images, titles, self.subject.colours[partition]))

    def _show_sliders(self) -> None:
        shown, found = [], self._dimensions[:MOST_SLIDERS]
        for name in dict.fromkeys(it.partition for it in found):
            colour, own = self.subject.colours[name], [it for it in found if it.partition == name]
            alive, dead = ([self._slider(it) for it in own if it.dead is state] for state in (False, True))
            body = f"{parts.heading(name, colour)}<div class=sliders>{''.join(alive)}</div>"
            if dead:
                summary = f"<summary>{len(dead)} dead, below {DEAD_KL} nats</summary>"
                body += f"<details>{summary}<div class=sliders>{''.join(dead)}</div></details>"
            label = f'aria-label="{escape(name)}" style="--accent: {colour}"'
            shown.append(f'<section class="group" {label}>{body}</section>')
        if len(self._dimensions) > len(found):
            shown.append(parts.note_of(f"{MOST_SLIDERS} of {len(self._dimensions)} dimensions have a slider."))
        self.page.show(latent_sliders="".join(shown))

    def _slider(self, it: Dimension) -> str:
        value = float(self._code[it.number].clip(-REACH, REACH))
        told = "" if it.kl is None else f"KL {it.kl:.2f} nats"
        label = f"{escape(it.partition)} z{it.number}, {told}"
        limits = f'type="range" min="{-REACH}" max="{REACH}" step="0.05" value="{value:.3f}" aria-label="{label}"'
        field = f"<input {limits} {parts.ask('slide', dimension=it.number)}><output>{value:.2f}</output>"
        return f'<label title="{told}"><span>z{it.number}</span>{field}</label>'
