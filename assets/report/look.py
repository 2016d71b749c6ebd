"""Opens a page of `evenkeel report` in a headless Chromium, light and dark, 1280 and 400 pixels wide.

    apt-get install chromium chromium-driver
    python3 assets/report/look.py report.html [FOLDER for the pictures]

Fails where the console has an error, where something reaches beyond the width of the page, where a figure is empty,
or where the pointer over a figure does not show its values. Needs Python alone.
"""

import base64
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

PORT = 9517
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
]


def call(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["value"]


def start(profile):
    options = {"args": [*ARGUMENTS, f"--user-data-dir={profile}"]}
    always = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
    for _ in range(50):
        try:
            return call("/session", {"capabilities": {"alwaysMatch": always}})["sessionId"]
        except ConnectionError:
            time.sleep(0.2)
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionError):
                raise
            time.sleep(0.2)
    raise SystemExit("chromedriver does not answer")


def look(session, page, width, scheme, picture):
    run = lambda script: call(f"/session/{session}/execute/sync", {"script": script, "args": []})
    devtools = lambda command, **parameters: call(f"/session/{session}/goog/cdp/execute", {"cmd": command, "params": parameters})
    devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    devtools("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    call(f"/session/{session}/url", {"url": page})
    faults = [entry["message"] for entry in call(f"/session/{session}/se/log", {"type": "browser"})]
    wide = run("return document.documentElement.scrollWidth")
    if wide > width:
        faults.append(f"the page is {wide} pixels wide")
    faults += run("""
        return [...document.querySelectorAll("figure svg")].filter(svg => svg.getBoundingClientRect().height < 100
            || !svg.querySelector(".line, .dot")).map(svg => "empty: " + svg.getAttribute("aria-label"))""")
    faults += run("""
        return [...document.querySelectorAll("details[open] .area, section > * .area")].slice(0, 4).filter(area => {
            const box = area.getBoundingClientRect();
            area.dispatchEvent(new PointerEvent("pointermove", {clientX: box.left + box.width / 2, clientY: box.top}));
            const shown = area.querySelector(".tip b");
            const number = shown && isFinite(Number(shown.textContent));
            area.dispatchEvent(new PointerEvent("pointerleave"));
            return !number || area.querySelector(".tip");
        }).map(area => "no values under the pointer: " + area.closest("figure").textContent.slice(0, 40))""")
    height = run("return document.documentElement.scrollHeight")
    devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
    picture.write_bytes(base64.b64decode(call(f"/session/{session}/screenshot")))
    print(f"{picture}: {width}x{height}, {len(faults)} faults")
    return faults


def main(page, folder="."):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    page = Path(page).resolve().as_uri()
    driver = subprocess.Popen(["chromedriver", f"--port={PORT}", "--log-level=OFF"], stdout=subprocess.DEVNULL)
    faults = []
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            session = start(profile)
            for width in (1280, 400):
                for scheme in ("light", "dark"):
                    faults += look(session, page, width, scheme, folder / f"report-{width}-{scheme}.png")
            call(f"/session/{session}/url", {"url": "about:blank"})
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{PORT}/session/{session}", method="DELETE"))
    finally:
        driver.terminate()
    for fault in faults:
        print("fault:", fault)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main(*sys.argv[1:])
