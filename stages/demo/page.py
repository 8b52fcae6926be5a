"""A local web page on top of the analyst, made with Gradio: `python infer.py task=demo`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from fmawsss.files.images import read_bounded
from fmawsss.files.texts import compose
from fmawsss.resizing import Normaliser, Picture, Resize
from stages.demo.analyst import Analyst, Findings, PartBuilders

LARGEST_UPLOAD = "50mb"
CLEANED_EVERY, KEPT = 600, 3600  # seconds between two looks, and that uploads and masks are kept

logger = logging.getLogger(__name__)


def serve_demo(
    builders: PartBuilders,
    handwritten: Callable[..., Any],
    checkpoints: Mapping[str, str],
    resize: Resize,
    normalise: Normaliser,
    host: str,
    port: int,
    hosts: Sequence[str],
    max_megapixels: float,
) -> None:
    """Serve the page until it is interrupted.

    hosts: names by which browsers may call this machine. A page of another site, whose name was
    made to lead here, is not answered.
    """
    gradio = import_gradio()
    analyst = Analyst(builders, handwritten, checkpoints, resize, normalise)
    page = build_page(gradio, analyst, max_megapixels)
    logger.info("the page is at http://%s:%d, Ctrl+C ends it", host, port)
    open_page(gradio, page, host, port, hosts, wait=True)


def open_page(
    gradio: Any, page: Any, host: str, port: int | None, hosts: Sequence[str], wait: bool
) -> None:
    """Open the page on one address; nothing is shared, nothing fetched from elsewhere."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    guard = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
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
        max_file_size=LARGEST_UPLOAD,
        app_kwargs={"middleware": [guard]},
    )


def build_page(gradio: Any, analyst: Analyst, max_megapixels: float) -> Any:
    """Lay out the page: an image and its labels on the left, what each step makes on the right."""
    os.environ["GRADIO_TEMP_DIR"] = str(analyst.folder)  # only ours, and gone when the page ends

    def show(
        file: str | None, ticked: list[str], typed: str, prompts: str, opacity: float
    ) -> tuple[Any, ...]:
        try:
            image = None if file is None else read_upload(Path(file), max_megapixels)
            name = Path(file or "").stem
            found = analyst.analyse(image, join_labels(ticked, typed), prompts, name)
        except ValueError as error:
            # it is shown as HTML
            raise gradio.Error(escape(str(error)), print_exception=False) from error
        drawn = lay(found, opacity)
        return found.superpixels, found.cams, *drawn, found.files, found.areas, found

    def lay(found: Findings | None, opacity: float) -> list[Picture | None]:
        layers = {} if found is None else found.layers
        masks = [layers.get(kind) for kind in ("seed", "network")]
        return [mask and mask.draw(found.image, opacity) for mask in masks]  # type: ignore[union-attr]

    names, examples = analyst.classes, analyst.list_examples()
    settings = {"analytics_enabled": False, "delete_cache": (CLEANED_EVERY, KEPT)}
    with gradio.Blocks(title="fmawsss", **settings) as page:
        gradio.Markdown("## Image labels in, pixel masks out")
        if analyst.note:
            gradio.Textbox(analyst.note, label="note", interactive=False)
        with gradio.Row():
            with gradio.Column():
                image = gradio.Image(
                    label="image",
                    type="filepath",  # not decoded yet
                    image_mode=None,
                    sources=["upload", "clipboard"],
                )
                ticked = gradio.CheckboxGroup(names, label="labels", visible=bool(names))
                typed = gradio.Textbox(label="more labels, with ; between them")
                prompts = gradio.Radio(analyst.prompts, value=analyst.prompts[0], label="prompts")
                opacity = gradio.Slider(0, 1, 0.6, label="opacity of masks")
                button = gradio.Button("segment", variant="primary")
                if examples:
                    rows = [
                        [file, labels if names else "; ".join(labels)] for file, labels in examples
                    ]
                    gradio.Examples(rows, [image, ticked if names else typed], label="examples")
            with gradio.Column(scale=2):
                with gradio.Row():
                    superpixels = gradio.Image(label="superpixels", format="png")
                    cams = gradio.Gallery(label="CAMs", format="png", columns=2)
                with gradio.Row():
                    seeds = gradio.Image(label="seeds", format="png")
                    network = gradio.Image(label="network", format="png")
                areas = gradio.Textbox(label="areas", interactive=False, lines=2)
                files = gradio.File(label="masks as palette PNGs", file_count="multiple")
        found = gradio.State()
        button.click(
            show,
            [image, ticked, typed, prompts, opacity],
            [superpixels, cams, seeds, network, files, areas, found],
            api_name="segment",
            show_progress_on=superpixels,  # an error stands there and at the top, not everywhere
        )
        opacity.release(lay, [found, opacity], [seeds, network], api_name=False)
    return page


def read_upload(file: Path, max_megapixels: float) -> Picture:
    """Read an image; raises ValueError for one that is too large, before it is decoded."""
    remedy = "start the page with a larger job.max_megapixels"
    return read_bounded(file, max_megapixels, remedy)


def join_labels(ticked: list[str], typed: str) -> list[str]:
    """Join ticked labels and those typed with semicolons between them, each once.

    >>> join_labels(["cat"], "dog; cat;")
    ['cat', 'dog']
    """
    names = (compose(name.strip()) for name in typed.split(";"))
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
