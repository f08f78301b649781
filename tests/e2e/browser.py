"""Opens a page in headless Chromium and says what a person would see: python browser.py CHROMIUM URL FOLDER [PROCESS]

Prints JSON: for each view (a size and a colour scheme) what the console said, the state of each panel, and where the screenshot is.
With a process, ends it at last and says as `outage` what is seen of the page then.
Speaks the DevTools protocol over a pipe, so that phone widths and colour schemes can be set and console messages be heard.
"""

import base64
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

VIEWS = {
    "desktop-light": (1360, 900, "light", False),
    "desktop-dark": (1360, 900, "dark", False),
    "phone-light": (390, 844, "light", True),
    "phone-dark": (390, 844, "dark", True),
}
ANSWER_S_MAX = 60
DRAWN_S_MAX = 60

# What can be seen of the page. `drawn` counts marks: lines, bars, points of a picture; rows of a table.
FACTS = """
JSON.stringify({
  rounds: Number(document.documentElement.dataset.rounds ?? 0),
  overflow: document.documentElement.scrollWidth - window.innerWidth,
  background: getComputedStyle(document.body).backgroundColor,
  health: document.getElementById("pipelines").textContent,
  health_words: [...document.querySelectorAll("#health dt")].map((word) => word.textContent),
  health_class: document.getElementById("health").className,
  down: document.getElementById("down-text")?.textContent,
  marked_up: document.querySelectorAll("main a, main b, main i").length,
  fresh: document.getElementById("fresh").className,
  height: document.documentElement.scrollHeight,
  panels: Object.fromEntries([...document.querySelectorAll(".card")].map((card) => [card.id.replace("panel-", ""), {
    state: card.dataset.state,
    title: card.querySelector("h2").textContent,
    answers: Number(card.dataset.answers ?? 0),
    text: card.querySelector(".rows").hidden ? card.querySelector(".plot").textContent : card.querySelector(".rows").textContent,
    button: card.querySelector(".as-table").getAttribute("aria-label"),
    age: card.querySelector(".age")?.hidden ? "" : card.querySelector(".age")?.textContent,
    lines: Object.fromEntries([...card.querySelectorAll(".traces")].map((trace) => [
      trace.querySelector(".legendtext")?.textContent, trace.querySelector(".legendlines path")?.style.stroke])),
    caption: card.querySelector(".rows caption")?.textContent,
    labels: [...card.querySelectorAll(".ytick text")].map((label) => label.textContent),
    // Cells whose text is cut, and how: their width and what marks the cut.
    shortened: [...card.querySelectorAll("tbody td")].filter((cell) => cell.scrollWidth > cell.clientWidth)
      .map((cell) => [cell.clientWidth, getComputedStyle(cell).textOverflow]),
    scrolls: card.querySelector(".scrolls") !== null,
    bars: [...card.querySelectorAll(".point path")].map((bar) => bar.style.fill),
    said: card.querySelector(".say").hidden ? "" : card.querySelector(".say").textContent,
    drawn: card.querySelectorAll(".js-line, .point path, .points .point, tbody tr").length,
    cut: card.scrollWidth - card.clientWidth,
    height: card.getBoundingClientRect().height,
  }])),
})
"""


class Browser:
    def __init__(self, chromium, profile):
        self.to_read, to_write = os.pipe()
        from_read, self.from_write = os.pipe()
        command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-dev-shm-usage",
                   "--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
        # Chromium reads commands from file 3 and writes answers to file 4.
        script = f'exec "$@" 3<&{self.to_read} 4>&{self.from_write}'
        self.process = subprocess.Popen(["bash", "-c", script, "chromium", *command], pass_fds=(self.to_read, self.from_write),
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.out, self.answers = to_write, from_read
        os.close(self.to_read)
        os.close(self.from_write)
        os.set_blocking(self.answers, False)
        self.number, self.buffer, self.events = 0, b"", []

    def receive(self):
        """The next message, or None if there is none now."""
        while b"\0" not in self.buffer:
            try:
                piece = os.read(self.answers, 1 << 20)
            except BlockingIOError:
                return None
            if not piece:
                raise SystemExit("Chromium ended")
            self.buffer += piece
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, session=None, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self.out, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + ANSWER_S_MAX
        while time.monotonic() < until:
            answer = self.receive()
            if answer is None:
                time.sleep(0.01)
            elif answer.get("id") == self.number:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']}")
                return answer["result"]
            elif "method" in answer:
                self.events.append(answer)
        raise SystemExit(f"{method}: no answer within {ANSWER_S_MAX} s")

    def said(self, session):
        """Console messages, errors and failed requests of a page."""
        said = []
        for event in self.events:
            if event.get("sessionId") != session:
                continue
            params = event["params"]
            if event["method"] == "Runtime.consoleAPICalled":
                said.append(f"{params['type']}: " + " ".join(str(arg.get("value", arg.get("description"))) for arg in params["args"]))
            elif event["method"] == "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                said.append("exception: " + details.get("exception", {}).get("description", details["text"]))
            elif event["method"] == "Log.entryAdded":
                said.append(f"{params['entry']['level']}: {params['entry']['text']} {params['entry'].get('url', '')}")
        return said


def look(browser, url, name, folder, process=None):
    width, height, scheme, mobile = VIEWS[name]
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ["Page", "Runtime", "Log"]:
        browser.call(f"{domain}.enable", session)
    browser.call("Emulation.setDeviceMetricsOverride", session, width=width, height=height, deviceScaleFactor=2 if mobile else 1, mobile=mobile)
    browser.call("Emulation.setEmulatedMedia", session, features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.call("Page.navigate", session, url=url)

    def facts():
        result = browser.call("Runtime.evaluate", session, expression=FACTS)["result"]
        return json.loads(result["value"]) if "value" in result else None

    # Heights before anything is drawn, to see whether the page jumps.
    first = None
    until = time.monotonic() + DRAWN_S_MAX
    seen = None
    while time.monotonic() < until:
        seen = facts()
        if seen and seen["panels"] and first is None:
            first = {panel: now["height"] for panel, now in seen["panels"].items()}
        if seen and seen["rounds"] >= 1:
            break
        time.sleep(0.05)
    time.sleep(0.7)
    if process:
        os.kill(process, signal.SIGKILL)
        until = time.monotonic() + DRAWN_S_MAX
        while time.monotonic() < until and not (facts()["down"] and any(panel["age"] for panel in facts()["panels"].values())):
            time.sleep(0.2)
    seen = facts()
    seen["first_heights"] = first
    size = {"x": 0, "y": 0, "width": width, "height": seen["height"], "scale": 1}
    picture = browser.call("Page.captureScreenshot", session, format="png", captureBeyondViewport=True, clip=size)["data"]
    path = pathlib.Path(folder) / (f"{name}-outage.png" if process else f"{name}.png")
    path.write_bytes(base64.b64decode(picture))
    seen["screenshot"] = str(path)
    seen["console"] = browser.said(session)
    browser.call("Target.closeTarget", targetId=target)
    return seen


def main():
    chromium, url, folder = sys.argv[1:4]
    process = int(sys.argv[4]) if len(sys.argv) > 4 else None
    with tempfile.TemporaryDirectory(dir=folder) as profile:
        browser = Browser(chromium, profile)
        try:
            views = {name: look(browser, url, name, folder) for name in VIEWS}
            if process:
                views["outage"] = look(browser, url, "desktop-light", folder, process)
            print(json.dumps(views))
        finally:
            browser.process.kill()
            browser.process.wait()
            # Its children let go of the profile a moment later.
            time.sleep(0.3)


main()
