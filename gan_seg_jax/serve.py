"""Show on a page in the browser how a trained network segments images that are dropped there.

    python -m gan_seg_jax.serve --workdir=DIR [--checkpoint=best|latest|STEP] [--port=7860] [--host=127.0.0.1]

The page shows the mask, an overlay, the confidence and the areas of the classes, which can be switched on and off, and
gives the mask as a file. --workdir may be a folder of `export --format=safetensors`, too. It needs the extra `serve`
(Gradio): pip install "gan_seg_jax[serve]". Only this machine can open the page, unless --host says otherwise; there is
no password, nothing is sent elsewhere, and what was uploaded is deleted at the end. Ctrl+C ends it.
"""

import importlib.util
import sys
from pathlib import Path

from absl import flags

from gan_seg_jax.cli import commands
from gan_seg_jax.errors import InputError
from gan_seg_jax.serving import address


def main() -> None:
    """Run the command."""
    values = flags.FLAGS
    workdir, host = commands.required("workdir"), commands.required("host")
    with address.taken(host, values.port) as listening:
        if importlib.util.find_spec("gradio") is None:  # known before the network is loaded
            raise InputError('The page needs gradio, which is not installed: pip install "gan_seg_jax[serve]".')
        from gan_seg_jax import load, parallel  # after the flags: a mistake is answered at once

        parallel.initialize()
        segmenter = load(workdir, values.checkpoint, batch_size=1)
        from gan_seg_jax.serving import page

        place = address.place(listening)
        if address.is_open(place[0]):
            text = f"warning: --host={host} lets everybody in who can reach this machine; the page has no password."
            print(text, file=sys.stderr, flush=True)
        ready = lambda: print(f"The page is at {address.url(*place)}; Ctrl+C ends it.", flush=True)
        page.serve(segmenter, Path(workdir).resolve().name, listening, ready)


if __name__ == "__main__":
    commands.define_run_flags("workdir", "checkpoint")
    flags.DEFINE_integer("port", 7860, "Port of the page.", lower_bound=1, upper_bound=65535)
    flags.DEFINE_string("host", "127.0.0.1", "Address that the page is served at; 0.0.0.0 lets other machines in.")
    commands.run(main, __doc__, devices=False)
