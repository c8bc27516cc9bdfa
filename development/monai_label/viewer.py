"""What a person does in the OHIF viewer that MONAI Label serves: in Chromium without a window, by its buttons."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from monai.utils.module import optional_import

webdriver, has_selenium = optional_import("selenium.webdriver")
service, _ = optional_import("selenium.webdriver.chrome.service")
WebDriverException, _ = optional_import("selenium.common.exceptions", name="WebDriverException")

SIZE = (1500, 900)
GRAPHICS = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")  # WebGL without a GPU
SECONDS = 900.0
SEGMENTATION = "1"  # how the panel of MONAI Label names the one that it fills
COUNTED = f"""
const volume = window.services.segmentationService.getLabelmapVolume('{SEGMENTATION}');
const counts = {{}};
for (const value of volume.voxelManager.getCompleteScalarDataArray()) counts[value] = (counts[value] || 0) + 1;
return counts;
"""
TYPED = """
const field = document.getElementById(arguments[0]);
Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(field, arguments[1]);
field.dispatchEvent(new Event('input', {bubbles: true}));
"""


def browser_and_driver() -> tuple[str, str] | None:
    """Paths of Chromium and its driver; None where one of them, or selenium, is not installed."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    return (found[0], found[1]) if has_selenium and found[0] and found[1] else None


class Viewer:
    """The viewer of a MONAI Label server as a context; RuntimeError where it does not do what is expected in time.

    Args:
        url: address of the server.
        profile: new folder for what the browser keeps.
    """

    def __init__(self, url: str, profile: Path) -> None:
        installed = browser_and_driver()
        if installed is None:
            raise FileNotFoundError(
                "the browser is missing: apt-get install chromium chromium-driver, and pip install selenium."
            )
        self.url, (self.program, self.driver) = url.rstrip("/"), installed
        self.options = webdriver.ChromeOptions()
        self.options.binary_location = self.program
        size = f"--window-size={SIZE[0]},{SIZE[1]}"
        for argument in ("--headless=new", "--no-sandbox", size, f"--user-data-dir={profile.absolute()}", *GRAPHICS):
            self.options.add_argument(argument)

    def __enter__(self) -> Viewer:
        """Start the browser."""
        self.browser = webdriver.Chrome(options=self.options, service=service.Service(self.driver))
        return self

    def __exit__(self, *_: object) -> None:
        self.browser.quit()

    def open(self) -> None:
        """Open the first CT of the study list in the mode MONAI Label, and the list of segments beside the images."""
        self.browser.get(f"{self.url}/ohif/")
        self.click("//button[@data-cy='confirm-and-hide-button']")
        self.click("//*[text()='CT']")
        self.click("//button[starts-with(@data-cy, 'mode-monai-label-')]")
        self._wait("the images are shown", lambda: "I:" in self._element("//body").text)
        self.script("performance.setResourceTimingBufferSize(100000)")  # else later calls are not listed
        self.click("//*[@data-cy='panelSegmentationWithTools-btn']")

    def connect(self) -> None:
        """Connect the panel of MONAI Label with the server."""
        self.click("//div[contains(@class, 'monaiLabelPanel')]//button[contains(@class, 'actionButton')]")
        self._wait("the segments are listed", lambda: bool(self.segments()))

    def segments(self) -> dict[str, int]:
        """Name and number of every segment in the list."""
        rows = [row.text.split("\n") for row in self.browser.find_elements("xpath", "//*[@data-cy='data-row']")]
        return {row[1]: int(row[0]) for row in rows if len(row) > 1}

    def segment(self) -> None:
        """Press Run, and wait for the organs."""
        self.click("//div[contains(@class, 'monaiLabelPanel')]//button[normalize-space()='Run']")
        self._wait("the server answers", lambda: self._answered("/infer/"))
        self._wait("the organs are shown", lambda: bool(self.voxels()))

    def voxels(self) -> dict[str, int]:
        """Voxels of each segment that has any, as the viewer holds them."""
        names = {number: name for name, number in self.segments().items()}
        return {names[int(value)]: count for value, count in self.script(COUNTED).items() if int(value)}

    def paint(self, organ: str) -> None:
        """Draw with the brush in the middle of the axial slice."""
        self.click(f"//*[@data-cy='data-row']//*[text()='{organ}']")
        self.click("//*[@data-cy='Brush']")
        before = self.voxels()
        mouse = webdriver.ActionChains(self.browser, duration=100)
        mouse.move_to_element(self._element("//*[@data-cy='viewport-pane']")).click_and_hold()
        mouse.move_by_offset(8, 4).move_by_offset(8, 4).release().perform()
        self._wait("the brush paints", lambda: self.voxels() != before)

    def store(self, name: str) -> None:
        """Store the segments in the archive as DICOM-SEG, with a name."""
        self.click("//button[@aria-haspopup='menu'][.//*[@id='icon-more']]")
        self.click("//*[@role='menuitem'][normalize-space()='Export & Download']")
        self.click("//*[@role='menuitem'][normalize-space()='Export DICOM SEG']")
        field = "//*[text()='Enter the report name']/following::input[1]"
        self.click(field)  # what is typed elsewhere turns and flips the images
        self._element(field).send_keys(name)
        self.click("//button[normalize-space()='Save']")

    def fine_tune(self, model: str, epochs: int) -> None:
        """Start a fine-tuning on all labelled studies."""
        self.click("//a[text()='Options / Configurations']")
        self.click("//select[@name='selectSection']/option[@value='train']")
        for option, value in (("max_epochs", epochs), ("val_split", 0)):
            time.sleep(1)  # the form is drawn anew
            self.script(TYPED, f"train{model}{option}", str(value))
        self.click("//button[normalize-space()='Confirm']")
        self.click("//label[normalize-space()='Active Learning']")
        self.click("//button[normalize-space()='Update Model']")
        self._wait("the fine-tuning starts", lambda: self._answered("/train/"))

    def picture(self, path: Path) -> None:
        """Write what is on the screen as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        time.sleep(3)  # notices disappear
        self.browser.save_screenshot(str(path))

    def script(self, code: str, *arguments: Any) -> Any:
        """What a piece of JavaScript returns."""
        return self.browser.execute_script(code, *arguments)

    def click(self, place: str) -> None:
        """Click the first element at an XPath, once it is there."""

        def clicked() -> bool:
            self._element(place).click()
            return True

        self._wait(f"{place} can be clicked", clicked, 120)

    def _element(self, place: str) -> Any:
        return self.browser.find_element("xpath", place)

    def _answered(self, path: str) -> bool:
        """Whether the last call of the server's address with this path, other than for its state, was answered well."""
        calls = "performance.getEntriesByType('resource').filter(one => one.initiatorType === 'xmlhttprequest' && "
        found = self.script(f"return {calls} one.name.includes('{path}')).map(one => [one.name, one.responseStatus])")
        found = [status for name, status in found if "check_if_running" not in name]
        if found and found[-1] not in (0, 200):
            raise RuntimeError(f"the server answered {path} with status {found[-1]}: see its log.")
        return bool(found) and found[-1] == 200

    def _wait(self, what: str, done: Callable[[], bool], seconds: float = SECONDS) -> None:
        deadline, last = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            try:
                if done():
                    return
            except WebDriverException as problem:  # not there yet, or drawn anew meanwhile
                last = str(problem).splitlines()[0]
            time.sleep(0.5)
        raise RuntimeError(f"waited {seconds:g} s in vain until {what}. {last}")
