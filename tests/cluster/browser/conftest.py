"""A browser before the installed chart. Without one, or without a cluster: skipped, saying what to set."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.cluster.kit import forwarded, missing
from tests.cluster.release import NAME, Release, own_release

if TYPE_CHECKING:
    from tests.cluster.browser.ui import Ui

CHROMIUM = "ABOHB_TEST_CHROMIUM"  # else one that is on PATH
PICTURES = "ABOHB_TEST_PICTURES"  # a folder: docs/images, to renew those of the documents
NAMES = ("chromium", "chromium-browser", "google-chrome")
# No telemetry and no updates: what the page loads is all that this browser may want of the network.
OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    if lacks := missing(images=True):
        pytest.skip(f"set {', '.join(lacks)}; see tests/cluster/README.md")
    with own_release() as release:
        release.install()
        release.ready()
        yield release


@pytest.fixture(scope="module")
def ui(chromium: str, release: Release) -> Iterator[Ui]:
    """At the first page of the release's Prefect."""
    from playwright.sync_api import sync_playwright

    from tests.cluster.browser.ui import PATIENCE, Ui

    kept = os.environ.get(PICTURES)
    with (
        forwarded(release.cluster, f"{NAME}-prefect", 4200, healthy) as address,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=list(OPTIONS)) as browser,
    ):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE)
        page.goto(f"http://{address}")
        yield Ui(page, Path(kept) if kept else None)


def healthy(address: str) -> bool:
    """Whether that is a Prefect server."""
    try:
        return httpx.get(f"http://{address}/api/health", timeout=5.0).text == "true"
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def chromium() -> str:
    pytest.importorskip("playwright", reason="pip install playwright, for the test in a browser")
    found = os.environ.get(CHROMIUM) or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"set {CHROMIUM} to a Chromium, or install one (apt-get install chromium)")
    return found
