"""What columns and labels the command line names."""

from __future__ import annotations

import pytest

from gated_vae.pairing.labels import EXPRESSION, IDENTITY, LABELS, POSE, Label, owner, parse_columns
from gated_vae.preprocessing.errors import GatedVAEError


def test_a_store_has_a_label_if_it_has_all_of_its_columns() -> None:
    columns = ["sample_id", "pose_Ry", "AU12_r", "pose_Rx", "AU01_r", "AU12_c", "pose_Rz"]
    assert POSE.find(columns) == ["pose_Ry", "pose_Rx"]
    assert EXPRESSION.find(columns) == ["AU12_r", "AU01_r"]
    assert POSE.find(["pose_Rx", "pose_Rz"]) == EXPRESSION.find(["AU12_c"]) == []
    assert Label("two", ("AU12*", "pose_R?")).find(columns) == ["pose_Ry", "AU12_r", "pose_Rx", "AU12_c", "pose_Rz"]


def test_every_column_has_one_owner() -> None:
    columns = ["pose_Rx", "pose_Rz", "AU45_r", "AU45_c", "identity", "confidence"]
    assert [owner(column, LABELS.values()) for column in columns] == [POSE, POSE, EXPRESSION, None, IDENTITY, None]
    assert not POSE.owns("pose_Rz")  # measured, not shared


def test_shares_are_read_in_order_and_may_overlap() -> None:
    assert parse_columns("--share", ["position=posX,posY"]) == {"position": ("posX", "posY")}
    assert parse_columns("--share", [" a = b , c "]) == {"a": ("b", "c")}
    shares = parse_columns("--share", ["z=posX,posY", "a=posY,shape"])
    assert list(shares.items()) == [("z", ("posX", "posY")), ("a", ("posY", "shape"))]


@pytest.mark.parametrize(
    "text", ["position", "=posX", "position=", "p=posX,", "p=posX,,posY", "a/b=posX", "..=posX", "p=posX,posX"]
)
def test_unreadable_shares_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(GatedVAEError, match="--share position=posX,posY") as caught:
        parse_columns("--share", [text])
    assert text in caught.value.what


def test_two_partitions_cannot_have_one_name() -> None:
    with pytest.raises(GatedVAEError, match="Two partitions are called p"):
        parse_columns("--share", ["p=posX", "p=posY"])
