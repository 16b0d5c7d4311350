from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthetic import synthetic
from flows.simulate.blackbox import BlackboxError, load_blackbox, save_blackbox

SPACE = {
    "rate": {"type": "float", "low": 1e-4, "high": 1.0, "log": True},
    "kind": {"type": "categorical", "values": ["a", "b"]},
}
X = np.array([[1e-3, 0], [1e-1, 0], [1e-3, 1]])
LOSS = np.array([[3.0, 1.0], [2.0, np.nan], [0.5, 4.0]])
SECONDS = np.array([[1.0, 2.0], [1.0, 3.0], [2.0, 2.0]])


def write(folder: Path, name: str = "tiny", **changes: object) -> Path:
    path = folder / f"{name}.npz"
    parts = {"space": SPACE, "x": X, "losses": LOSS, "seconds": SECONDS, **changes}
    save_blackbox(path, *parts.values())  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    ("rate", "kind", "row"),
    # On the log axis 0.009 is nearer to 0.001 and 0.011 to 0.1; another category is further than either.
    [(1e-3, "a", 0), (0.009, "a", 0), (0.011, "a", 1), (1.0, "a", 1), (1e-3, "b", 2), (1.0, "b", 2)],
)
def test_a_configuration_is_looked_up_in_the_cube(tmp_path: Path, rate: float, kind: str, row: int) -> None:
    box = load_blackbox(write(tmp_path))
    curve = box.curve({"rate": rate, "kind": kind})
    assert box.nearest({"rate": rate, "kind": kind}) == row
    np.testing.assert_array_equal(curve.losses, LOSS[row])
    np.testing.assert_array_equal(curve.seconds, SECONDS[row])


def test_the_lookup_agrees_with_distances_written_out(tmp_path: Path) -> None:
    box = synthetic(tmp_path / "bowl.npz", rows=300, length=3)
    configs = box.space.sample(200, np.random.default_rng(0))
    with np.load(tmp_path / "bowl.npz") as file:
        rows = [
            {"learning_rate": a, "layers": int(b), "solver": ["sgd", "adam", "rmsprop"][int(c)]}
            for a, b, c in file["x"]
        ]
    for config in configs:
        distances = np.linalg.norm(box.space.encode(rows) - box.space.encode([config]), axis=1)
        assert distances[box.nearest(config)] == pytest.approx(distances.min(), abs=1e-12)


def test_the_best_is_over_all_resources_and_without_nan(tmp_path: Path) -> None:
    box = load_blackbox(write(tmp_path))
    assert (box.best, box.full_seconds, box.length) == (0.5, 2.0, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": X[:, :1]}, "x is (3, 1), expected (n, 2)"),
        ({"losses": LOSS[:2]}, "loss is (2, 2) and seconds is (3, 2), expected (3, 2)"),
        ({"seconds": SECONDS[:, ::-1]}, "never fall along a row"),
        ({"losses": np.full((3, 2), np.inf)}, "no finite value"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(BlackboxError) as caught:
        load_blackbox(write(tmp_path, **changes))
    assert message in str(caught.value)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "lcbench-3945")
    with pytest.raises(BlackboxError, match=r"did you mean 'lcbench-3945\.npz'"):
        load_blackbox(tmp_path / "lcbench-3954.npz")


def test_a_missing_or_odd_description_is_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    beside = path.with_suffix(".json")
    description = json.loads(beside.read_text())
    del description["space"]["rate"]["low"]
    beside.write_text(json.dumps(description))
    with pytest.raises(BlackboxError, match=r"space\.rate\.float\.low"):
        load_blackbox(path)
    beside.unlink()
    with pytest.raises(BlackboxError, match=r"tiny\.json is missing"):
        load_blackbox(path)


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.npz").write_text("not a table")
    with pytest.raises(BlackboxError, match="cannot be read"):
        load_blackbox(tmp_path / "odd.npz")
