"""Choices by name: every entry's text gives the entry back, and a text that means nothing says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import pytest

from gated_vae.models.methods.exchange import Exchange
from gated_vae.models.methods.gate import Gate
from gated_vae.models.methods.partners import Partners
from gated_vae.models.networks import CONVOLUTIONAL, FULLY_CONNECTED
from gated_vae.models.objectives import Gaussian, InfoVAE
from gated_vae.models.registry import LIKELIHOODS, METHODS, NETWORKS, OBJECTIVES, Registry, describe, parse

NAMES = [*METHODS]
ENTRIES = [(registry, name) for registry in (METHODS, OBJECTIVES, LIKELIHOODS) for name in registry]


@dataclass(frozen=True)
class Mine:
    """An entry with a constant of each type, one of them a keyword of Python."""

    lambda_: float = 0.5
    often: int = 3
    shut: bool = False


@pytest.fixture
def mine() -> Iterator[Registry[type[Any]]]:
    METHODS.add("mine", Mine)  # type: ignore[arg-type]
    yield METHODS
    METHODS.remove("mine")


@pytest.mark.parametrize(("registry", "name"), ENTRIES)
def test_an_entry_s_name_is_its_text_with_the_constants_that_are_stated(
    registry: Registry[type[Any]], name: str
) -> None:
    choice = parse(registry, name)
    assert choice == registry[name]()
    text = describe(registry, choice)
    assert text.partition(":")[0] == name
    assert parse(registry, text) == choice
    stated = [entry.partition("=")[0] for entry in text.partition(":")[2].split(",") if entry]
    assert stated == [field.name.rstrip("_") for field in fields(choice)]


def test_constants_that_nobody_states_are_those_of_the_papers() -> None:
    """Each as the paper that the class names has it."""
    by_default = {describe(registry, registry[name]()) for registry, name in ENTRIES}
    assert by_default >= {
        "partners:self_reconstruction=0.0",
        "slow-vae:gamma=10.0,rate=6.0,double_cross_entropy=false",
        "ml-vae:double_variance=false",
        "beta:beta=4.0",
        "annealed:gamma=1000.0,capacity=25.0,steps=100000",
        "tc:beta=6.0",
        "factor:beta=1.0,gamma=30.0",
        "info:alpha=0.0,lambda=500.0",
        "dip1:beta=1.0,lambda_od=10.0,lambda_d=100.0",
        "dip2:beta=1.0,lambda_od=250.0,lambda_d=250.0",
    }


@pytest.mark.parametrize(
    ("registry", "text", "choice"),
    [
        (METHODS, "gate:regulariser=false", Gate(regulariser=False)),
        (METHODS, "exchange:open_every=4", Exchange(open_every=4)),
        (METHODS, "partners:self_reconstruction=0.25", Partners(0.25)),
        (OBJECTIVES, "info:alpha=1e-05,lambda=2.5", InfoVAE(1e-5, 2.5)),
        (LIKELIHOODS, "gaussian:scale=0.1", Gaussian(0.1)),
    ],
)
def test_texts_by_hand(registry: Registry[type[Any]], text: str, choice: object) -> None:
    assert parse(registry, text) == choice
    assert describe(registry, choice) == text


def test_values_survive_to_the_last_bit_and_blanks_do_not_matter(mine: Registry[type[Any]]) -> None:
    choice = Mine(0.1 + 0.2, -7, shut=True)
    assert describe(mine, choice) == "mine:lambda=0.30000000000000004,often=-7,shut=true"
    assert parse(mine, describe(mine, choice)) == choice
    assert parse(mine, "mine: shut = true , lambda = 2") == Mine(2.0, shut=True)
    assert parse(mine, "mine:") == Mine()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nope", f"There is no 'nope'; choose from {', '.join(NAMES)}, mine"),
        ("", "There is no ''"),
        ("mine:depth=3", "mine has no 'depth'; it has lambda, often, shut"),
        ("mine:lambda_=3", "mine has no 'lambda_'"),
        ("mine:3", "mine has no '3'"),
        ("vae:beta=3", "vae has no 'beta'; it has no constants"),
        ("gate:open_every=4", "gate has no 'open_every'; it has regulariser"),
        ("mine:lambda", "lambda is a number, not ''"),
        ("mine:lambda=much", "lambda is a number, not 'much'"),
        ("mine:lambda=nan", "lambda is a number, not 'nan'"),
        ("mine:lambda=-inf", "lambda is a number, not '-inf'"),
        ("mine:often=2.5", "often is a whole number, not '2.5'"),
        (f"mine:often={'9' * 400}", "often is a whole number, not '999"),
        ("mine:shut=yes", "shut is true or false, not 'yes'"),
        ("mine:often=2,,shut=true", "mine has no ''"),
        ("partners:self_reconstruction=1.5", "is a probability"),
        ("composed:self_reconstruction=-0.5", "is a probability"),
        ("exchange:open_every=1", "leaves no gated step"),
        ("exchange:open_every=-2", "leaves no gated step"),
    ],
)
def test_a_text_that_means_nothing_says_why(mine: Registry[type[Any]], text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(mine, text)


@pytest.mark.parametrize("text", ["vae:beta=-1", "beta:beta=-0.5", "dip2:lambda_od=-1", "info:lambda=0.5"])
def test_an_objective_that_would_repel_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse(OBJECTIVES, text)


@pytest.mark.parametrize("scale", ["-0.1", "1e-9", "inf", "nan"])
def test_a_scale_that_no_pixel_can_have_is_refused(scale: str) -> None:
    with pytest.raises(ValueError, match="scale"):
        parse(LIKELIHOODS, f"gaussian:scale={scale}")


def test_what_is_not_registered_has_no_text() -> None:
    with pytest.raises(ValueError, match="Mine is not registered"):
        describe(METHODS, Mine())  # type: ignore[misc]


def test_a_registry_is_a_mapping_that_one_can_add_to(mine: Registry[type[Any]]) -> None:
    assert "mine" in mine
    assert "nope" not in mine
    assert mine["mine"] is Mine
    assert [*mine] == [*NAMES, "mine"]
    assert len(mine) == len(NAMES) + 1
    assert dict(NETWORKS) == {"fc": FULLY_CONNECTED, "conv": CONVOLUTIONAL}
