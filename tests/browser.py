"""Debian's chromium, driven by its DevTools protocol over a pipe: no package, no download."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)

# Contrast of computed colors, blended over the backgrounds behind: 4.5 of text, 3 of large text, of the edge of a control or mark, or its filling.
CONTRAST = """() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const behind = (e) => {
    if (!e) return parse(getComputedStyle(document.body).backgroundColor);
    const own = parse(getComputedStyle(e).backgroundColor);
    return own[3] === 1 ? own : over(own, behind(e.parentElement));
  };
  const light = (c) => c.slice(0, 3).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (one, other) => { const [a, b] = [light(one), light(other)]; return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); };
  const faint = [];
  const check = (e, what, most, least) => { if (most < least) faint.push(`${what} ${e.tagName}.${e.className}#${e.id}: ${most.toFixed(2)} < ${least}`); };
  for (const e of document.querySelectorAll("body *")) {
    const style = getComputedStyle(e);
    if (!e.checkVisibility() || e.closest(":disabled, .unseen, .skip, noscript")) continue;
    const below = behind(e), around = behind(e.parentElement);
    const ink = (color) => over(parse(color), below);
    const large = parseFloat(style.fontSize) >= (parseInt(style.fontWeight) >= 700 ? 18.66 : 24) ? 3 : 4.5;
    const texts = [...e.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
    if (texts || e.matches("select, input[type=text], input[type=search], input[type=password]")) check(e, "text", ratio(ink(style.color), below), large);
    if (e.placeholder) check(e, "placeholder", ratio(ink(getComputedStyle(e, "::placeholder").color), below), 4.5);
    if (e.matches("select, input[type=text], input[type=search], input[type=password], button:not(.quiet), .switch :checked + span, .dot, .bar i")) {
      const edge = parseFloat(style.borderTopWidth) ? ratio(ink(style.borderTopColor), around) : 0;
      check(e, "edge", Math.max(edge, ratio(below, around)), 3);
    }
  }
  return faint;
}"""


class Browser:
    """One tab."""

    def __init__(self, profile: Path, *, width: int = 1400, height: int = 1000, dark: bool = False) -> None:
        down, to_chromium = os.pipe()
        from_chromium, up = os.pipe()
        self._to, self._from = to_chromium, from_chromium
        words = [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={profile}",
            "--remote-debugging-pipe",
        ]
        # the protocol is spoken on descriptors 3 and 4
        shell = f'exec "$@" 3<&{down} 4>&{up}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *words, "about:blank"], pass_fds=(down, up), stderr=subprocess.DEVNULL
        )
        os.close(down)
        os.close(up)
        self._ids, self._rest, self.events = itertools.count(1), b"", []
        self._session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.scheme("dark" if dark else "light")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def js(self, expression: str) -> Any:
        """Return the value of an expression, awaited."""
        found = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = 30) -> Any:
        """Return the value of an expression once it is true."""
        end = time.monotonic() + seconds
        while not (value := self.js(expression)):
            assert time.monotonic() < end, (
                f"{expression} was not true within {seconds} s; the page: {self.js('document.body.innerText')[:1500]}"
            )
            time.sleep(0.05)
        return value

    def click(self, selector: str) -> None:
        """Click the middle of an element with the mouse."""
        box = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}}); "
            "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def type(self, text: str) -> None:
        """Type text into what has the focus."""
        self.send("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press a key, such as ArrowRight or Enter."""
        codes = {"Enter": 13, "Tab": 9, "ArrowRight": 39, "ArrowDown": 40, "Escape": 27, "End": 35}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key], **text)

    def scheme(self, name: str) -> None:
        """Set what the system prefers: "light" or "dark"."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def too_faint(self) -> list[str]:
        """Return what is seen and has less contrast than WCAG 2.1 AA asks for: texts (1.4.3), and the edges of controls and dots (1.4.11)."""
        return self.js(f"({CONTRAST})()")

    def picture(self, file: Path) -> None:
        """Write what is seen as a PNG."""
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        """End the browser."""
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._from, 1 << 16)
            assert part, "chromium ended"
            self._rest += part
        line, self._rest = self._rest.split(b"\0", 1)
        return json.loads(line)
