"""Prefect's user interface, by mouse and keyboard, as a person has it."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Locator, Page

from tests.cluster.kit import until

PATIENCE = 20_000.0  # milliseconds that a page may take; the machine of the tests is busy
COLOURS = 96  # of a picture


@dataclass(frozen=True, slots=True)
class Ui:
    """One tab of a browser; pictures of it are kept in a folder, if there is one."""

    page: Page
    pictures: Path | None

    # -- deployments and their form

    def form(self, deployment: str) -> None:
        """Deployments, its name, Run, Custom run."""

        def go() -> None:
            self.page.get_by_role("link", name="Deployments", exact=True).first.click()
            row = self.page.get_by_role("row").filter(has_text=deployment)
            row.get_by_role("link", name=deployment, exact=True).first.click()
            self.button("Run").click()
            self.page.get_by_role("menuitem", name="Custom run").click()
            self.button("Submit").wait_for()

        self._patiently(f"the form of {deployment}", go)

    def fill(self, **fields: str) -> None:
        """By their titles: `Search space` is search_space here."""

        def go() -> bool:
            for name, text in fields.items():
                self._field(name).fill(text)
            self.page.wait_for_timeout(500)  # a page that was not all there yet forgets what was typed
            return all(self._holds(name, text) for name, text in fields.items())

        until(f"the form holds {', '.join(fields)}", go, 120)

    def _holds(self, name: str, text: str) -> bool:
        shown = self._field(name).evaluate("one => one.value ?? one.innerText")
        return "".join(shown.split()) == "".join(text.split())

    def choose(self, field: str, word: str) -> None:
        """From a dropdown, by typing what is looked for."""
        self._field(field).click()
        self.page.get_by_placeholder("Search").last.fill(word)
        self.page.get_by_role("option", name=word, exact=True).click()

    def submit(self) -> None:
        """And on to the run that this begins; once more if the server was too busy to take it."""
        form = self.page.url
        try:
            self._submitted()
        except PlaywrightError:
            if self.page.url != form:
                raise
            self._submitted()
        self.page.get_by_role("tab", name="Details").wait_for()

    def _submitted(self) -> None:
        self.button("Submit").click()
        self.page.get_by_role("link", name="View run").click(timeout=2 * PATIENCE)

    def _field(self, name: str) -> Locator:
        words = re.compile(rf"^{name.replace('_', ' ')}( \(Optional\))?$", re.IGNORECASE)
        label = self.page.locator("label").filter(has_text=words)
        return self.page.locator(f"[id='{label.get_attribute('for')}']")

    # -- a run

    def run(self, name: str) -> None:
        """Runs, and the newest of that name."""

        def go() -> None:
            self.page.get_by_role("link", name="Runs", exact=True).first.click()
            self.page.get_by_role("link", name=name, exact=True).first.click()
            self.page.get_by_role("tab", name="Details").wait_for()

        self._patiently(f"the run {name}", go)

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def wait_state(self, state: str, within: float) -> None:
        """Of the run whose page this is; its badge stands beside its name."""
        header = self.page.locator("main").get_by_text(state, exact=True).first
        self.wait(f"the run is {state}", header, within)

    def wait(self, what: str, sight: Locator, within: float) -> None:
        """Until it is seen; the page is loaded again in between."""
        self._patiently(what, lambda: sight.wait_for(timeout=5000), within)

    def _patiently(self, what: str, go: Callable[[], None], within: float = 180.0) -> None:
        """Until it goes: a server that is busy may not answer a page, which then is loaded again."""
        last = ""

        def gone() -> bool:
            nonlocal last
            try:
                go()
                return True
            except PlaywrightError as error:
                last = str(error)
                with contextlib.suppress(PlaywrightError):
                    self.page.reload()
                return False

        try:
            until(what, gone, within)
        except AssertionError as error:
            raise AssertionError(f"{error}; {last}") from None

    def legs(self, words: str) -> Locator:
        """Task runs whose name is like that; the tab is open then."""
        self.tab("Task Runs")
        return self.page.get_by_role("link", name=re.compile(words))

    def artifact(self, run: str, key: str, *words: str) -> None:
        """Open that of a run; it is there when these words of it are seen."""

        def go() -> None:
            self.run(run)
            self.tab("Artifacts")
            card = self.page.get_by_role("link").filter(has=self.page.get_by_text(key, exact=True))
            card.first.click()
            self.page.get_by_role("link", name=re.compile("^[0-9a-f]{8}$")).first.click()
            for word in words:
                self.page.locator("main").get_by_text(word).first.wait_for()

        self._patiently(f"the artifact {key} with {', '.join(words)}", go)

    def menu(self, word: str) -> None:
        """Of the run: the three dots."""
        self.page.locator("main button[aria-haspopup=menu]").first.click()
        self.page.get_by_role("menuitem", name=word, exact=True).click()

    def cancel(self) -> None:
        self.menu("Cancel")
        self.button("Cancel Flow Run").click()

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def look_again(self) -> None:
        """Load the page of a run anew, with its timeline as it is now, which is slow to draw."""
        if self.pictures is None:
            return

        def go() -> None:
            self.page.reload()
            self.page.get_by_role("tab", name="Details").wait_for()

        self._patiently("the page of the run", go)
        self.page.wait_for_timeout(3000)

    def picture(self, name: str, *, whole: bool = False) -> None:
        """Of what is in the window, or of the whole page beside its menu; small, for a document."""
        if self.pictures is None:
            return
        self.page.wait_for_timeout(500)  # until what moves has come to rest
        shot = self.page.locator("main").screenshot() if whole else self.page.screenshot()
        colours = Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS)
        colours.save(self.pictures / f"{name}.png", optimize=True)
