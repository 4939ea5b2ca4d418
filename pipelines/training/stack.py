"""Training of several models at once: one process, one device, tensors with a leading model axis, each model an ordinary run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from gated_vae.models import distributed
from gated_vae.models.augment import AUGMENT_STREAM, NUMBERS, augment
from gated_vae.models.checkpoint import Checkpoint
from gated_vae.models.methods.base import StepBatch
from gated_vae.models.noise import draw_normal, hashed_noise, stream_seed
from gated_vae.models.objectives.base import Encoded, Posterior, Terms
from gated_vae.models.stacked import Stack, bytes_of_one
from gated_vae.models.vae import GatedVAE, optimiser_groups
from gated_vae.pairing.stream.address import is_address
from gated_vae.pipelines.process import InterruptedTrainingError, set_up, stop_signals, why_not_compile
from gated_vae.pipelines.training.chunks import IdChunk, Walk, id_chunks
from gated_vae.pipelines.training.config import TrainConfig, TrainOptions
from gated_vae.pipelines.training.journal import DivergedError, Found, Journal, apart, kl_by_dimension
from gated_vae.pipelines.training.run import Run, load_checkpoint
from gated_vae.pipelines.training.validation import Validation
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.progress import Progress
from gated_vae.preprocessing.store import Store

PIECE = 1 << 14  # images copied to a device at a time: 64 MB at 64 x 64
CHUNK = {"cuda": 2048, "cpu": 64}  # steps whose ids are prepared at once; signals are heard between chunks
WORTH_PROCESSES = 200_000  # batches of ids that take longer to list than processes take to start

Slots = dict[str, dict[str, torch.Tensor]]  # what an optimiser keeps of each parameter


def takes_graphs(config: TrainConfig, store: Store, device: str) -> bool:
    """Whether a run is trained as a stack or in one: on CUDA alone, by one process, its images there with room to spare."""
    if not device.startswith("cuda") or distributed.world_size() > 1 or why_not_stacked([config]):
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return 2 * store.images.nbytes <= free


def why_not_stacked(configs: Sequence[TrainConfig]) -> str:
    """What keeps runs from being trained as one stack, in words; empty where nothing does."""
    first = configs[0]
    for config in configs:
        if is_address(config.store):
            return "A service sends images, not ids."
        if config.decoder_only or config.initial:
            return "Fine-tuning trains a part of a model."
        objectives = config.model.objective, first.model.objective
        alike = replace(config.model, objective=objectives[1], kl_weights=first.model.kl_weights)
        if config.store != first.store:
            return "They are trained on different stores."
        if len({hasattr(objective, "critic") for objective in objectives}) > 1:
            return "Some have a discriminator, others none."
        if config.patience and len(configs) > 1:
            return "Early stopping ends each of them at a step of its own."
        if replace(config, seed=first.seed, model=alike) != first:
            return "They differ in more than seed, objective and KL weights."
    return ""


def too_large(configs: Sequence[TrainConfig], store: Store, device: str) -> GatedVAEError:
    """What is told where memory does not suffice: about how many models would fit into what this process has and what is free."""
    one = bytes_of_one(configs[0].model, configs[0].precision, configs[0].batch_size)
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - store.images.nbytes
    asked, fit = len(configs), max(0, free // one)
    fit = fit if fit < asked else asked // 2  # more than that the estimate was wrong by
    why = f"Beside the images {max(0, free) / 2**30:,.1f} GiB are free; a model takes about {one / 2**30:.2g}."
    remedy = f"Train about {fit} at a time: --stack {fit}, or so many --seeds. What is trained is not trained again."
    if not fit:
        remedy = "Lower --batch-size or --hidden, end what else uses the GPU, or use --device cpu."
    what = f"{asked} models do" if asked > 1 else "The model does"
    return GatedVAEError(f"{what} not fit into the memory of the GPU.", why, remedy)


class StackTrainer:
    """A stack of models, its optimiser and its position in their runs."""

    def __init__(
        self,
        runs: Sequence[Run],
        store: Store,
        ends: tuple[int, ...],
        device: str,
        validations: Sequence[Validation | None] = (),
    ) -> None:
        set_up(runs[0].config.precision, device)
        self.runs, self.device, self.config = runs, torch.device(device), runs[0].config
        self.ends, self.steps, self.validations = ends, ends[-1], validations
        self.method, self.partitions = self.config.model.method, list(self.config.model.latent)
        self.images = load_images(store, self.device)
        self.journals = [Journal(run) for run in runs]
        self._diverged: dict[Path, str] = {}  # told when the state of the others is saved
        saved = [run.saved_steps() for run in runs]
        self.step = max(set.intersection(*saved), default=0)  # the newest that all have saved
        self._models, slots = zip(*map(self._open, self.journals), strict=True)
        self.stack = Stack(self._models, self.device)
        self._kl_weights = self.stack.buffers["kl_weights"].clone()
        self.optimiser = self._optimiser(slots)
        terms = [_term_names(model) for model in self._models]
        self._others = [set().union(*terms) - own for own in terms]
        self._seeds = {
            stream: torch.tensor([stream_seed(run.config.seed, stream) for run in runs], device=device)
            for stream in (1, AUGMENT_STREAM)
        }
        self._counter = torch.tensor(self.step, device=device)
        self._rises = max(run.config.rises for run in runs)
        self._through = torch.ones(self.config.model.latent_size, dtype=torch.bool, device=device)
        self._sums: dict[str, Terms] = {}
        self._counts: Counter[str] = Counter()
        self._graphs: dict[bool, _Graph] = {}
        on_cuda = self.device.type == "cuda"
        compiled = on_cuda and not why_not_compile(device)
        self._terms = torch.compile(self.stack.terms, dynamic=False) if compiled else self.stack.terms

    def _open(self, journal: Journal) -> tuple[GatedVAE, Slots]:
        """One of the models, and what its optimiser keeps of each parameter: as saved, or new."""
        run = journal.run
        torch.manual_seed(run.config.seed)
        model = GatedVAE(run.config.model, run.config.precision).train()
        optimiser = torch.optim.Adam(model.parameters(), fused=True)
        if self.step:
            journal.restore(load_checkpoint(Checkpoint.at(run.checkpoints, self.step), model, optimiser))
        return model, {name: optimiser.state[parameter] for name, parameter in model.named_parameters()}

    def _optimiser(self, slots: Sequence[Slots]) -> torch.optim.Adam:
        """One optimiser for all models, going on from what each kept."""
        on_cuda = self.device.type == "cuda"
        rate = torch.tensor(self.config.lr, device=self.device) if on_cuda else self.config.lr
        groups = optimiser_groups(self.stack.parameters)
        optimiser = torch.optim.Adam(groups, lr=rate, fused=True, capturable=on_cuda)
        for name, parameter in self.stack.parameters.items() if self.step else ():
            moments = {key: torch.stack([own[name][key] for own in slots]) for key in ("exp_avg", "exp_avg_sq")}
            optimiser.state[parameter] = {
                "step": slots[0][name]["step"].to(self.device),
                # Laid out as the parameter is: the fused optimiser walks through all of them side by side.
                **{key: torch.empty_like(parameter).copy_(value) for key, value in moments.items()},
            }
        return optimiser

    def ended(self) -> bool:
        """Whether no step is left."""
        return self.step == self.steps or self.journals[0].stopped_early  # where several are trained, none does

    def found(self) -> list[Found]:
        """What is filed of each model when they have ended."""
        return [journal.found() for journal in self.journals]

    def fit(self, options: TrainOptions, progress: Progress) -> None:
        """Train to the last step, saving on the way and when told to stop."""
        batches = (self.steps - self.step) * len({run.config.seed for run in self.runs})
        workers = os.cpu_count() or 1 if batches > WORTH_PROCESSES else 0
        every = self.config.checkpoint_every or options.checkpoint_every
        walk = Walk(self.step, self.ends, CHUNK[self.device.type], every)
        positions = [journal.loader for journal in self.journals]
        chunks = id_chunks([run.config for run in self.runs], positions, walk, workers=workers)
        with stop_signals() as stopped, ExitStack() as stack:
            for journal in self.journals:
                stack.enter_context(journal.open(self.step))
            for chunk in self._saved_at_the_end_of(chunks):
                for ids in self._steps_of(chunk):
                    self.step += 1
                    self._train_on(ids)
                    if self.step % options.log_every == 0:
                        self._log(progress)
                for journal, position in zip(self.journals, chunk.positions, strict=True):
                    journal.loader = position
                due = self.step == self.steps or self.step % every == 0
                if due:
                    self._validate()
                if self.ended() and self.step % options.log_every:
                    self._log(progress)
                if due or stopped or self._diverged:
                    self._save()
                if stopped and not self.ended():
                    raise InterruptedTrainingError.at(self.step, self.steps)
                if self._diverged:
                    raise DivergedError(self._diverged)
                if self.ended():
                    return

    def _saved_at_the_end_of(self, chunks: Iterator[IdChunk]) -> Iterator[IdChunk]:
        """The chunks; where no more come (their store is gone, a worker has died), the state is saved first."""
        try:
            yield from chunks
        except Exception:
            if self.step:
                self._save()
            raise

    def _steps_of(self, chunk: IdChunk) -> Iterator[StepBatch]:
        """A chunk's steps, moved to the device at once: batches of ids in place of images."""

        def there(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

        inputs, targets = there(chunk.input), there(chunk.target)
        sources = [None] * len(inputs) if chunk.sources is None else there(chunk.sources)
        for step in zip(inputs, targets, chunk.partitions, sources, strict=True):
            yield StepBatch(*step)

    def _train_on(self, ids: StepBatch) -> None:
        self._inputs = ids.input
        ids = self._prepared(ids)
        if ids.partition is not None:
            self._through.copy_(self.stack.buffers["masks"][0, self.partitions.index(ids.partition)])
        if self._rises and self.step <= self._rises + 1:  # filled in: a graph looks where the weights are
            self.stack.buffers["step"].fill_(self.step - 1)
            self.stack.buffers["kl_weights"].copy_(self._kl_weights * self.config.kl_share(self.step))
        self._set_learning_rate()
        sums = self._sums.setdefault(ids.label, {})
        for key, term in self._compute(ids).items():
            sums[key] = sums[key].add_(term) if key in sums else term.double()
        self._counts[ids.label] += 1

    def _prepared(self, ids: StepBatch) -> StepBatch:
        """What the method makes of a batch, whose model axis stands for an image's own axes meanwhile: the last ones."""
        last = replace(ids, input=ids.input.movedim(0, -1), target=ids.target.movedim(0, -1))
        ids = self.method.prepare(last, (self.step - 1) // len(self.partitions))
        inputs, targets = (tensor.movedim(-1, 0).contiguous() for tensor in (ids.input, ids.target))
        return replace(ids, input=inputs, target=targets)

    def _compute(self, ids: StepBatch) -> Terms:
        """One step of the optimiser; return the loss terms by name, (S,)."""
        if self.device.type != "cuda" or ids.target.shape[-1] < self.config.batch_size:
            return self._step(ids, self.stack.terms)  # an epoch's last, smaller batch is worth no graph
        # All partitions share a graph: which of them is open is an input of it.
        gated = ids.partition is not None
        graph = self._graphs.setdefault(gated, _Graph(lambda ids: self._step(ids, self._terms)))
        return graph(ids)

    def _step(self, ids: StepBatch, terms_of: Callable[[StepBatch, torch.Tensor], Terms]) -> Terms:
        images = self.images[ids.input.long()], self.images[ids.target.long()]
        sources = None if ids.sources is None else ids.sources.long()
        batch = StepBatch(*images, sources=sources, through=None if ids.partition is None else self._through)
        self._counter += 1
        if kinds := self.config.augmentations:
            drawn = self._normal((NUMBERS, *ids.input.shape[1:]), AUGMENT_STREAM).movedim(1, 0)
            batch = augment(batch, kinds, drawn, grouped=ids.input.dim() > 2)
        self.optimiser.zero_grad(set_to_none=True)
        terms = terms_of(batch, self._normal((3, ids.target.shape[-1], self.config.model.latent_size)))
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return {key: term.detach() for key, term in terms.items()}

    def _normal(self, shape: tuple[int, ...], stream: int = 1) -> torch.Tensor:
        """Each model's noise of this step, (S, *shape): that of a single run."""
        if self.device.type == "cuda":
            return hashed_noise(self._seeds[stream], self._counter, shape)
        seeds = (run.config.seed for run in self.runs)
        drawn = [draw_normal(shape, seed=seed, step=self.step, device="cpu", stream=stream) for seed in seeds]
        return torch.stack(drawn)

    def _set_learning_rate(self) -> None:
        if self.config.schedule == "constant":  # as it was made: no operation of the device for nothing
            return
        rate = self.config.learning_rate(self.step, self.ends)
        group = self.optimiser.param_groups[0]
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate

    def _collect(self) -> None:
        """Bring the sums of losses to each model's own."""
        for label, sums in self._sums.items():
            terms = dict(zip(sums, torch.stack(list(sums.values())).cpu(), strict=True))
            for index, journal in enumerate(self.journals):
                own = {key: term[index] for key, term in terms.items() if key not in self._others[index]}
                journal.losses.add(label, own, self._counts[label])
        self._sums, self._counts = {}, Counter()

    def _log(self, progress: Progress) -> None:
        self._collect()
        rate = self.config.learning_rate(self.step, self.ends)
        every_kl = self.stack.kl(self.images[self._inputs.long()]).cpu()
        for journal, kl in zip(self.journals, every_kl, strict=True):
            with apart(self._diverged):
                journal.log(self.step, {**kl_by_dimension(kl), "learning_rate": rate})
        progress(self.step, self.steps, self.journals[0].note())

    def _weights(self) -> dict[str, torch.Tensor]:
        """What a model's `state_dict` has, of all of them."""
        tensors = self.stack.parameters | self.stack.buffers
        return {name: tensors[name].detach() for name in self.stack.saved}

    def _validate(self) -> None:
        """File every model's loss on its valid pairs."""
        weights = self._weights()
        for index, validation in enumerate(self.validations):
            if validation is not None:
                model = self._models[index].to(self.device)
                model.load_state_dict({name: value[index] for name, value in weights.items()})
                self.journals[index].validated(self.step, validation.losses(model))

    def _save(self) -> None:
        """Save every model that has not diverged as an ordinary run's checkpoint."""
        self._collect()
        weights = {name: value.cpu() for name, value in self._weights().items()}
        slots = {
            f"{name}/{key}": value.cpu()
            for name, parameter in self.stack.parameters.items()
            for key, value in self.optimiser.state[parameter].items()
        }
        for index, journal in enumerate(self.journals):
            if journal.run.path in self._diverged:
                continue
            own = {name: value[index] for name, value in weights.items()}
            kept = {name: value[index] if value.dim() else value for name, value in slots.items()}
            with apart(self._diverged):
                journal.save(self.step, own, kept)
        for run in self.runs:  # once all have that step
            run.prune()


class _Graph:
    """A step as a CUDA graph: run a few times as it is, then recorded once, then replayed on new inputs."""

    WARM_UP = 3

    def __init__(self, work: Callable[[StepBatch], Terms]) -> None:
        self._work, self._calls = work, 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, ids: StepBatch) -> Terms:
        """Do one step; the result is valid until the next."""
        self._calls += 1
        if self._calls <= self.WARM_UP:
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                found = self._work(ids)
            torch.cuda.current_stream().wait_stream(stream)
            return found
        if self._graph is None:
            self._record(ids)
        for static, given in zip(self._static, _tensors(ids), strict=True):
            static.copy_(given)
        assert self._graph is not None
        self._graph.replay()
        return self._found

    def _record(self, ids: StepBatch) -> None:
        """Record the step on copies of its inputs, in memory that stays: a graph looks nowhere else."""
        sources = None if ids.sources is None else ids.sources.clone()
        static = replace(ids, input=ids.input.clone(), target=ids.target.clone(), sources=sources)
        self._static = _tensors(static)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._found = self._work(static)


def load_images(store: Store, device: torch.device) -> torch.Tensor:
    """All images of a store, uint8 (N, H, W), on a device: copied a piece at a time, so that the host holds few of them."""
    images = torch.empty(store.images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), PIECE):
        images[start : start + PIECE] = torch.from_numpy(np.array(store.images[start : start + PIECE]))
    return images


def _tensors(ids: StepBatch) -> list[torch.Tensor]:
    return [tensor for tensor in (ids.input, ids.target, ids.sources) if tensor is not None]


def _term_names(model: GatedVAE) -> set[str]:
    """The names of the terms of a model's objective."""
    zeros = torch.zeros(2, model.config.latent_size)
    encoded = Encoded(Posterior(zeros, zeros), zeros, zeros, zeros[0], model.step, model.critic)
    return {*model.config.objective.terms(encoded)}
