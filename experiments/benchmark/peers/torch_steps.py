"""A step and inference of each case in PyTorch: our networks' twins, or smp's segmenter. Started by `compare`.

Losses, optimizers and order of the updates are those of the config; images are ready on the device, and nothing is
looked at for being finite. The side's name says how: "torch-compile-channels_last".
"""

import argparse
from typing import Any

from experiments.benchmark import worker
from experiments.benchmark.peers import missing


def make(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return works and facts."""
    torch = missing.need("torch")
    if options.device == "tpu":
        raise worker.MissingError("PyTorch has no TPU of its own; its sides are left out.")
    from experiments.benchmark.peers import torch_game

    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    on_gpu = options.device == "gpu"
    if on_gpu:  # as JAX does
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    game = torch_game.Game(options)
    flops = game.count()
    if "compile" in options.side:
        game.compile()
    modules = [
        "torch",
        *(["timm"] if game.has_backbone else []),
        *(["segmentation_models_pytorch"] if "smp" in options.side else []),
    ]
    works = {"step": game.steps, "inference": game.inference, "product": game.product}
    return works, {
        "parameters": {role: sum(p.numel() for p in net.parameters()) for role, net in game.networks.items()},
        "flops": flops,
        "versions": {module: missing.need(module).__version__ for module in modules},
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "memory": torch.cuda.max_memory_allocated if on_gpu else None,
    }


if __name__ == "__main__":
    worker.serve(make)
