"""A local web page on top of the analyst, made with Gradio: `python infer.py task=demo`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fmawsss.resizing import Normaliser, Resize
from stages.demo.analyst import Analyst, PartBuilders

logger = logging.getLogger(__name__)


def serve_demo(
    builders: PartBuilders,
    handwritten: Callable[..., Any],
    checkpoints: Mapping[str, str],
    resize: Resize,
    normalise: Normaliser,
    host: str,
    port: int,
) -> None:
    """Serve the page until it is interrupted."""
    gradio = import_gradio()
    page = build_page(gradio, Analyst(builders, handwritten, checkpoints, resize, normalise))
    logger.info("the page is at http://%s:%d, Ctrl+C ends it", host, port)
    open_page(gradio, page, host, port, wait=True)


def open_page(gradio: Any, page: Any, host: str, port: int, wait: bool) -> None:
    """Open the page on one address; nothing is shared, nothing fetched from elsewhere."""
    plain = gradio.themes.Base(font=["sans-serif"], font_mono=["monospace"])
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=not wait,
        theme=plain,
        footer_links=[],
        ssr_mode=False,
    )


def build_page(gradio: Any, analyst: Analyst) -> Any:
    """Lay out the page: an image and its labels on the left, what each step makes on the right."""

    def show(
        image: np.ndarray | None, ticked: list[str], typed: str, prompts: str
    ) -> tuple[Any, ...]:
        try:
            found = analyst.analyse(image, join_labels(ticked, typed), prompts)
        except ValueError as error:
            raise gradio.Error(str(error)) from error
        return found.superpixels, found.cams, found.seeds, found.network, found.mask

    names = analyst.classes
    with gradio.Blocks(title="fmawsss", analytics_enabled=False) as page:
        gradio.Markdown(f"## Image labels in, pixel masks out\n\n{analyst.note}")
        with gradio.Row():
            with gradio.Column():
                image = gradio.Image(label="image", type="numpy", sources=["upload", "clipboard"])
                ticked = gradio.CheckboxGroup(names, label="labels", visible=bool(names))
                typed = gradio.Textbox(label="more labels, with ; between them")
                prompts = gradio.Radio(analyst.prompts, value=analyst.prompts[0], label="prompts")
                button = gradio.Button("segment", variant="primary")
            with gradio.Column(scale=2):
                pictures = []
                for row in (("superpixels", "CAMs"), ("seeds", "network")):
                    with gradio.Row():
                        pictures += [gradio.Image(label=name, format="png") for name in row]
                mask = gradio.File(label="mask as palette PNG")
        button.click(show, [image, ticked, typed, prompts], [*pictures, mask], api_name="segment")
    return page


def join_labels(ticked: list[str], typed: str) -> list[str]:
    """Join ticked labels and those typed with semicolons between them, each once.

    >>> join_labels(["cat"], "dog; cat;")
    ['cat', 'dog']
    """
    names = (name.strip() for name in typed.split(";"))
    return list(dict.fromkeys([*ticked, *filter(None, names)]))


def import_gradio() -> Any:
    """Import Gradio without its telemetry, or say how to install it."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise ModuleNotFoundError(
            f'the page needs gradio ({error}): pip install -e ".[demo]"'
        ) from error
    return gradio
