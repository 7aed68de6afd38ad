"""A headless Chromium, asked over a pipe in the DevTools protocol; the environment variable CHROME names its binary."""

import base64
import contextlib
import json
import os
import subprocess
import time
from pathlib import Path

import pytest


class Browser:
    """One page of a browser that is never asked for anything but this machine."""

    def __init__(self, profile: Path, *, size: tuple[int, int] = (1200, 1600)):
        if "CHROME" not in os.environ:
            pytest.skip("CHROME does not name a Chromium")
        asked, self._write = os.pipe()
        self._read, answered = os.pipe()
        # It reads messages from file 3 and writes them to file 4.
        line = f'exec "$0" "$@" 3<&{asked} 4>&{answered}'
        words = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        words += ["--disable-background-networking", f"--window-size={size[0]},{size[1]}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", line, os.environ["CHROME"], *words],
            pass_fds=(asked, answered),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(asked)
        os.close(answered)
        self._number, self._session, self._rest, self.asked_for = 0, None, b"", []
        page = next(each for each in self.ask("Target.getTargets")["targetInfos"] if each["type"] == "page")
        target = {"targetId": page["targetId"], "flatten": True}
        self._session = self.ask("Target.attachToTarget", **target)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "DOM"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters):
        """Return the answer to a command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                part = os.read(self._read, 1 << 20)
                assert part, "the browser has ended"
                self._rest += part
            text, _, self._rest = self._rest.partition(b"\0")
            answer = json.loads(text)
            if answer.get("method") == "Network.requestWillBeSent":
                self.asked_for.append(answer["params"]["request"]["url"])
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def open(self, address: str) -> None:
        """Go to an address and wait until the page is loaded."""
        self.ask("Page.navigate", url=address)
        self.wait("document.readyState == 'complete'")

    def value(self, script: str):
        """Return what an expression of JavaScript is in the page."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 60):
        """Wait until an expression is true, and return what it is."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := self.value(script):
                return found
            time.sleep(0.2)
        raise AssertionError(f"not in {seconds} s: {script}; the page says {self.value('document.body.innerText')!r}")

    def choose_file(self, selector: str, path: Path) -> None:
        """Give a file to an <input type="file">."""
        found = self.ask("Runtime.evaluate", expression=f"document.querySelector({selector!r})")
        self.ask("DOM.setFileInputFiles", files=[str(path)], objectId=found["result"]["objectId"])

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page, however long."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *error) -> None:
        with contextlib.suppress(AssertionError, OSError):
            self.ask("Browser.close")
        os.close(self._write)
        os.close(self._read)
        self._process.wait(30)
