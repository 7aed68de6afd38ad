"""The page itself, made with Gradio; it needs no other machine, and tells none."""

import os
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import Any

from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.segmenter import Segmenter
from gan_seg_jax.pictures import pages
from gan_seg_jax.preparing.extras import need
from gan_seg_jax.serving import address
from gan_seg_jax.serving.view import WELCOME, Viewer
from gan_seg_jax.system import process

MAX_UPLOAD = "256mb"  # of a file; how many pixels it may have is config.max_pixels
KEPT_SECONDS = 3600  # for so long uploads stay
# Gradio asks its own address whether it serves, which is not to go through a proxy.
_ALONE = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "NO_PROXY": "*",
    "no_proxy": "*",
}
_STYLE = """
.wrong { border-left: 6px solid #c62828; padding: .3em 1em }
.swatch { display: inline-block; width: .9em; height: .9em; border: 1px solid #888; margin-right: .5em;
          vertical-align: -.1em }
#areas table { font-variant-numeric: tabular-nums; border: 0 } #areas tbody th { font-weight: normal }
#areas :is(th, td) { padding: .15em .8em; text-align: right; border: 0 solid #8888; border-bottom-width: 1px }
#areas :is(th, td):first-child { text-align: left }
#classes [data-testid] > label::before { content: ""; flex: none; width: .9em; height: .9em; border: 1px solid #888;
          margin-right: .5em }
"""


def serve(segmenter: Segmenter, name: str, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serve the page until a signal comes.

    Args:
        segmenter: the network.
        name: of the run, above the page.
        listening: where; it is closed for Gradio to take its place.
        ready: called when the page can be asked for.

    Raises:
        InputError: Gradio is missing, or somebody else has taken the place.
    """
    with tempfile.TemporaryDirectory(prefix="gan_seg_serve_") as folder:
        os.environ.update(_ALONE, GRADIO_TEMP_DIR=folder)  # read when Gradio is imported
        gradio = need("gradio", "serve", "The page")
        blocks = _layout(gradio, Viewer(segmenter), name, segmenter.class_names)
        stopped = threading.Event()
        process.take(lambda *_: stopped.set())
        host, port = address.place(listening)
        listening.close()
        # Not mounted in an app of our own: Gradio lets clients name any file of the machine then.
        try:
            blocks.launch(
                server_name=host,
                server_port=port,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                max_file_size=MAX_UPLOAD,
                footer_links=[],
                run_history=False,
                ssr_mode=False,
                mcp_server=False,
                enable_monitoring=False,
                # Gradio's own fonts would be asked of Google.
                theme=gradio.themes.Default(
                    font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
                ).set(block_info_text_color="*neutral_600"),
                css=_STYLE + _swatches(segmenter.class_colors),
            )
        except OSError:  # Gradio's words are of its own settings
            raise InputError(f"{host}:{port} cannot be served: it was taken meanwhile; give another --port.") from None
        ready()
        stopped.wait()
        blocks.close(verbose=False)


def _layout(gradio: Any, viewer: Viewer, name: str, class_names: Sequence[str]) -> Any:
    """Return the page's parts and what happens at which event."""
    with gradio.Blocks(title=f"{name} - gan_seg_jax", delete_cache=(600, KEPT_SECONDS)) as blocks:
        gradio.HTML(f"<h1>{pages.escaped(name)}</h1>")
        with gradio.Row():
            with gradio.Column(scale=1, min_width=260):
                upload = gradio.File(label="Image", type="filepath", height=140)
                message = gradio.HTML(WELCOME)
                opacity = gradio.Slider(0, 1, 0.5, step=0.05, label="Opacity of the colours")
                ids = list(range(len(class_names)))
                choices = list(zip(class_names, ids, strict=True))
                note = "What is switched off is not drawn; the table and the mask to download keep it."
                classes = gradio.CheckboxGroup(
                    choices, value=ids, label="Classes", info=note, elem_id="classes", show_select_all=True
                )
            with gradio.Column(scale=3, min_width=320):
                picture = {"format": "png", "interactive": False, "buttons": ["fullscreen"]}
                overlay = gradio.Image(label="Overlay", **picture)
                with gradio.Row():
                    mask = gradio.Image(label="Mask", **picture)
                    confidence = gradio.Image(label="Confidence (white: sure)", image_mode="L", **picture)
                areas = gradio.HTML(elem_id="areas")
                download = gradio.DownloadButton("Download the mask (PNG of class ids)", size="md", interactive=False)

        def show(*given: Any) -> tuple:
            view = viewer.show(*given)
            return (*view[:-1], gradio.DownloadButton(value=view.download, interactive=view.download is not None))

        gradio.on(
            [upload.change, classes.change, opacity.release],
            show,
            [upload, classes, opacity],
            [message, overlay, mask, confidence, areas, download],
            api_name="show",
        )
    return blocks


def _swatches(colors: Sequence[Sequence[int]]) -> str:
    """Return the style that puts the colour of each class before its switch."""
    return "".join(
        f"#classes [data-testid] > label:nth-of-type({number})::before {{ background: rgb({red} {green} {blue}) }}\n"
        for number, (red, green, blue) in enumerate(colors, 1)
    )
