"""A tag is resolved once for each study."""

import json
from pathlib import Path

import pytest

from operators.kube.image import PinnedImage, pinned
from operators.store import DirectoryStore

DIGEST, OTHER = "@sha256:" + "a" * 64, "@sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("image", "ran", "runs"),
    [
        ("r.example/team/digits:1.0", f"r.example/team/digits{DIGEST}", f"r.example/team/digits{DIGEST}"),
        ("r.example:5000/digits", f"r.example:5000/digits{DIGEST}", f"r.example:5000/digits{DIGEST}"),
        ("digits:1.0", f"docker.io/library/digits{DIGEST}", f"digits{DIGEST}"),
        ("team/digits:1.0", f"docker-pullable://docker.io/team/digits{DIGEST}", f"team/digits{DIGEST}"),
        ("digits:1.0", "sha256:" + "a" * 64, "digits:1.0"),  # loaded onto the node
        ("digits:1.0", f"docker.io/library/import-2026-11-21{DIGEST}", "digits:1.0"),  # also
    ],
)  # fmt: skip
def test_what_later_pods_run(image: str, ran: str, runs: str) -> None:
    assert pinned(image, ran) == runs


def test_the_others_wait_for_the_first_and_run_what_it_ran(tmp_path: Path) -> None:
    image = PinnedImage(DirectoryStore(tmp_path), "s", "r.example/d:1")
    assert [image.reference((trial, 1)) for trial in range(3)] == ["r.example/d:1", "", ""]
    assert image.reference((0, 1)) == "r.example/d:1"  # asked again
    image.saw((0, 1), f"r.example/d{DIGEST}")
    assert [image.reference((trial, 1)) for trial in range(3)] == [f"r.example/d{DIGEST}"] * 3
    again = PinnedImage(DirectoryStore(tmp_path), "s", "r.example/d:1")
    assert again.reference((5, 2)) == f"r.example/d{DIGEST}"  # another controller of the study
    assert PinnedImage(DirectoryStore(tmp_path), "s", "r.example/d:2").reference((5, 3)) == "r.example/d:2"


def test_that_it_works_is_known_of_pods_as_they_are_made_now(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    image = PinnedImage(store, "s", "r.example/d:1", "python train.py")
    assert not image.works
    image.saw((0, 1), f"r.example/d{DIGEST}")
    assert not image.works
    image.worked()
    assert PinnedImage(store, "s", "r.example/d:1", "python train.py").works
    changed = PinnedImage(store, "s", "r.example/d:1", "python trian.py")
    assert changed.reference((1, 1)) == f"r.example/d{DIGEST}"
    assert not changed.works


def test_when_the_first_one_ends_without_having_run_another_tries(tmp_path: Path) -> None:
    image = PinnedImage(DirectoryStore(tmp_path), "s", "r.example/d:1")
    assert image.reference((0, 1))
    assert not image.reference((1, 1))
    image.ended((1, 1))  # not the one that the others wait for
    assert not image.reference((1, 1))
    image.ended((0, 1))
    assert image.reference((1, 1)) == "r.example/d:1"
    assert not image.reference((0, 2))


def test_nodes_that_hold_different_images_are_reported_once_each(tmp_path: Path) -> None:
    image = PinnedImage(DirectoryStore(tmp_path), "s", "d:1")
    image.saw((0, 1), "sha256:aa")
    image.saw((1, 1), "sha256:aa")
    assert image.notes == []
    image.saw((2, 1), "sha256:bb")
    image.saw((3, 1), "sha256:bb")
    assert len(image.notes) == 1
    assert "trial 2 ran sha256:bb, the first trial sha256:aa" in image.notes[0]


def test_a_digest_needs_no_scout(tmp_path: Path) -> None:
    image = PinnedImage(DirectoryStore(tmp_path), "s", f"r.example/d{DIGEST}")
    assert image.reference((7, 1)) == image.reference((8, 1)) == f"r.example/d{DIGEST}"
    image.saw((7, 1), f"r.example/d{DIGEST}")
    image.saw((8, 1), f"r.example/d{OTHER}")
    assert len(image.notes) == 1


@pytest.mark.parametrize("reference", ["evil.example/x", f"evil.example/d{DIGEST}", "r.example/d:2"])
def test_another_image_in_the_store_is_not_run(tmp_path: Path, reference: str) -> None:
    """Whoever can write there could lead a study round the registries that a policy allows."""
    store = DirectoryStore(tmp_path)
    document = {"image": "r.example/d:1", "reference": reference, "ran": reference}
    assert store.put_once(PinnedImage(store, "s", "r.example/d:1")._key, json.dumps(document).encode())
    image = PinnedImage(store, "s", "r.example/d:1")
    assert image.reference((0, 1)) == "r.example/d:1"
    image.saw((0, 1), f"r.example/d{DIGEST}")
    assert image.reference((1, 1)) == f"r.example/d{DIGEST}"
