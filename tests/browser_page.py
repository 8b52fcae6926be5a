"""Open a page in a real browser at some widths; print what it measures, and a PDF."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PySide6.QtCore import QTimer, QUrl
from PySide6.QtWebEngineCore import QWebEnginePage
from PySide6.QtWebEngineWidgets import QWebEngineView
from PySide6.QtWidgets import QApplication

WIDTHS = [360, 1280]
MEASURE = """JSON.stringify({
  width: innerWidth, needed: document.documentElement.scrollWidth,
  broken: [...document.images].filter(image => image.complete && !image.naturalWidth).length,
  requests: performance.getEntriesByType("resource")
    .filter(entry => !entry.name.startsWith("data:")).length,
})"""


class Page(QWebEnginePage):
    """A page that keeps what the browser complains about."""

    complaints: list[str]

    def javaScriptConsoleMessage(self, level, message, line, source):
        self.complaints.append(message)


def main(path: str, pdf: str) -> None:
    """Measure, print to a PDF, and leave."""
    app = QApplication(["browser"])
    view, page, found = QWebEngineView(), Page(), []
    page.complaints = []
    view.setPage(page)

    def measure(answer: str | None = None) -> None:
        if answer:
            found.append(json.loads(answer))
        if len(found) == len(WIDTHS):
            page.printToPdf(pdf)
            return
        view.resize(WIDTHS[len(found)], 800)
        QTimer.singleShot(500, lambda: page.runJavaScript(MEASURE, 0, measure))

    def leave() -> None:
        sys.stdout.write(json.dumps({"pages": found, "complaints": page.complaints}))
        app.quit()

    page.pdfPrintingFinished.connect(leave)
    page.loadFinished.connect(lambda _: measure())
    view.show()
    page.load(QUrl.fromLocalFile(str(Path(path).absolute())))
    QTimer.singleShot(100_000, app.quit)
    app.exec()


if __name__ == "__main__":
    main(*sys.argv[1:])
