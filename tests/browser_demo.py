"""Use the demo page in a real browser: drop an image, tick a label, press the button."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

from PySide6.QtCore import QTimer, QUrl
from PySide6.QtWebEngineWidgets import QWebEngineView
from PySide6.QtWidgets import QApplication

DROP = """(() => {
  const input = document.querySelector("input[type=file]");
  if (!input || !document.querySelector("input[type=checkbox]")) return "";
  const bytes = Uint8Array.from(atob("%s"), letter => letter.charCodeAt(0));
  const files = new DataTransfer();
  files.items.add(new File([bytes], "image.png", {type: "image/png"}));
  input.files = files.files;
  input.dispatchEvent(new Event("change", {bubbles: true}));
  return "done";
})()"""
PRESS = """(() => {
  if (![...document.images].some(image => !image.closest("table"))) return "";
  document.querySelector("input[type=checkbox]").click();
  const buttons = [...document.querySelectorAll("button")];
  buttons.find(button => button.innerText.trim() == "segment").click();
  return "done";
})()"""
LOOK = """(() => {
  const examples = [...document.images].filter(image => image.closest("table"));
  const shown = [...document.images].filter(i => i.naturalWidth && !examples.includes(i));
  const loaded = performance.getEntriesByType("resource");
  const hosts = new Set(loaded.map(entry => new URL(entry.name, location).hostname));
  const found = {pictures: shown.length, examples: examples.length, hosts: [...hosts]};
  return shown.length < 5 ? "" : JSON.stringify(found);
})()"""


def main(address: str, image: str) -> None:
    """Walk through the steps, each tried until it answers; print the last answer."""
    app = QApplication(["browser"])
    view = QWebEngineView()
    steps = [DROP % base64.b64encode(Path(image).read_bytes()).decode(), PRESS, LOOK]

    def step(answer: str | None = None) -> None:
        if answer:
            steps.pop(0)
        if not steps:
            sys.stdout.write(json.dumps(json.loads(answer)))
            app.quit()
            return
        QTimer.singleShot(1000, lambda: view.page().runJavaScript(steps[0], 0, step))

    view.loadFinished.connect(lambda _: step())
    view.show()
    view.load(QUrl(address))
    QTimer.singleShot(150_000, app.quit)
    app.exec()


if __name__ == "__main__":
    main(*sys.argv[1:])
