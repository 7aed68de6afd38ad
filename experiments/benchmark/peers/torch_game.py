"""Networks, optimizers, losses and steps of a case in PyTorch."""

import argparse
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from experiments.benchmark import cases
from experiments.benchmark.peers import missing, twins

PRODUCT = {"cpu": 2048, "gpu": 8192}  # side of the matrices by whose product the peak is measured


class Batch(NamedTuple):
    """A batch on the device, images and maps [b, c, h, w]."""

    image: Tensor
    unlabelled: Tensor
    label: Tensor
    truth: Tensor


class Weights(NamedTuple):
    """Of the terms of the acting network's loss, and the threshold of self-training."""

    adversarial: float
    cross_entropy: float
    l1: float
    unlabelled: float
    self_training: float
    threshold: float


def segmenter(network: Any, library: str, size: tuple[int, int]) -> nn.Module:
    """Return the network that labels: a twin, or smp's DeepLab v3+ by the same fields."""
    if "backbone" in network:
        missing.need("timm")
    if library == "torch":
        return twins.build(network, channels=3, classes=cases.CLASSES, size=size)
    smp = missing.need("segmentation_models_pytorch")
    return smp.DeepLabV3Plus(
        f"tu-{twins.TIMM.get(network.backbone, network.backbone)}",
        encoder_weights=None,
        encoder_output_stride=network.output_stride,
        decoder_channels=network.aspp_channels,
        decoder_atrous_rates=tuple(network.rates),
        decoder_aspp_separable=network.separable,
        decoder_aspp_dropout=network.dropout,
        classes=cases.CLASSES,
    )


class Game:
    """The networks of a case and what is done with them.

    Attributes:
        networks: by role.
        has_backbone: whether the acting network has a backbone of timm.
    """

    def __init__(self, options: argparse.Namespace):
        """Build networks, optimizers and a batch."""
        config = cases.load(options.case)
        size, channels = tuple(config.crop_size), cases.CLASSES
        self._device = "cuda" if options.device == "gpu" else "cpu"
        self._autocast = torch.autocast(self._device, torch.bfloat16, enabled=options.dtype == "bfloat16")
        self._method, self._noise = config.method, config.noise.size if config.method == "unconditional" else 0
        self._role = next(role for role in config.networks if role != "discriminator")
        acting = config.networks[self._role]
        self.has_backbone = "backbone" in acting
        if self._noise:
            network, channels = twins.build(acting, channels=self._noise, classes=0, size=size), 3
        else:
            network = segmenter(acting, options.side.split("-")[0], size)
            channels += 0 if config.method == "semi_supervised" else 3
        self.networks: dict[str, nn.Module] = {self._role: network}
        if "discriminator" in config.networks:
            judge = twins.build(config.networks.discriminator, channels=channels, classes=1, size=size)
            self.networks["discriminator"] = judge
        layout = torch.channels_last if "channels_last" in options.side else torch.contiguous_format
        self._optimizers = {}
        for role, net in self.networks.items():
            net.to(self._device, memory_format=layout).train()
            own = config.optimizers[role]
            self._optimizers[role] = torch.optim.Adam(
                net.parameters(), own.learning_rate, (own.beta1, own.beta2), fused=True
            )
        self._batch = _batch(config.batch_size, size, layout, self._device)
        self._weights = _weights(config.losses)
        self._forward, self._judge, self._act = self.networks[self._role], *LOSSES[config.method]
        kind = torch.bfloat16 if options.dtype == "bfloat16" else torch.float32
        self._matrix = torch.ones((PRODUCT[options.device],) * 2, dtype=kind, device=self._device)

    def compile(self) -> None:
        """Compile what a step is made of; the backward passes come with it."""
        self._forward, self._judge, self._act = map(torch.compile, (self._forward, self._judge, self._act))

    def count(self) -> dict[str, float]:
        """Return the floating-point operations of each work by PyTorch's counter: convolutions and products."""
        flops = {"product": 2 * len(self._matrix) ** 3}
        for name, work in (("step", self.steps), ("inference", self.inference)):
            counted = {torch.ops.aten.convolution_backward: _convolution_backward_flops}
            with FlopCounterMode(display=False, custom_mapping=counted) as counter:
                work(1)
            flops[name] = counter.get_total_flops()
        return flops

    def steps(self, count: int) -> None:
        """Take so many steps."""
        step = {"supervised": self._supervised, "semi_supervised": self._simultaneous}
        for _ in range(count):
            step.get(self._method, self._alternating)()
        self._wait()

    def inference(self, count: int) -> None:
        """Label the batch, or make images, so many times."""
        network = self.networks[self._role].eval()
        with torch.inference_mode(), self._autocast:
            for _ in range(count):
                output = self._forward(self._input())
                if not self._noise:
                    output.argmax(1)
        network.train()
        self._wait()

    def product(self, count: int) -> None:
        """Multiply square matrices so many times."""
        for _ in range(count):
            self._matrix @ self._matrix
        self._wait()

    def _input(self) -> Tensor:
        if self._noise:
            return torch.rand(len(self._batch.image), self._noise, device=self._device).mul(2).sub(1)
        return self._batch.image

    def _supervised(self) -> None:
        with self._autocast:
            loss = self._act(None, self._batch, self._weights, self._forward(self._input()))
        self._descend({self._role: loss})

    def _alternating(self) -> None:
        """Let the discriminator move first, and the other be judged by the new one, on one forward pass."""
        judge = self.networks["discriminator"]
        with self._autocast:
            output = self._forward(self._input())
            loss = self._judge(judge, self._batch, output.detach())
        self._descend({"discriminator": loss})
        judge.requires_grad_(False)
        with self._autocast:
            loss = self._act(judge, self._batch, self._weights, output)
        self._descend({self._role: loss})
        judge.requires_grad_(True)

    def _simultaneous(self) -> None:
        """Let both move at once, each judged by the other as it was."""
        judge = self.networks["discriminator"]
        with self._autocast:
            output = self._forward(self._batch.image), self._forward(self._batch.unlabelled)
            losses = {"discriminator": self._judge(judge, self._batch, output[0].detach())}
            judge.requires_grad_(False)
            losses[self._role] = self._act(judge, self._batch, self._weights, output)
            judge.requires_grad_(True)
        self._descend(losses)

    def _descend(self, losses: dict[str, Tensor]) -> None:
        for role, loss in losses.items():
            self._optimizers[role].zero_grad(set_to_none=True)
            loss.backward()
        for role in losses:
            self._optimizers[role].step()

    def _wait(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()


def _convolution_backward_flops(gradient, x, w, *options: Any, **_: Any) -> int:
    """Return the operations of a convolution's gradients by shapes; PyTorch's own formula takes groups for one."""
    *_, transposed, _, _, wanted = options
    places = math.prod((x if transposed else gradient)[2:])
    return 2 * x[0] * places * math.prod(w) * sum(wanted[:2])


def _batch(count: int, size: tuple[int, int], layout: torch.memory_format, device: str) -> Batch:
    def images() -> Tensor:
        return torch.rand(count, 3, *size, device=device).mul(2).sub(1).contiguous(memory_format=layout)

    label = torch.randint(cases.CLASSES, (count, *size), device=device)
    truth = F.one_hot(label, cases.CLASSES).permute(0, 3, 1, 2).float().contiguous(memory_format=layout)
    return Batch(images(), images(), label, truth)


def _weights(losses: Any) -> Weights:
    """Return the weights of `config.losses`; what a method has not is 0."""
    fields = losses.to_dict()
    names = ("adversarial", "unlabelled_adversarial", "self_training")
    adversarial, unlabelled, training = (float(fields.get(f"{name}_weight", 0.0)) for name in names)
    threshold = float(fields.get("self_training_threshold", 0.0))
    terms = fields["weights"]
    return Weights(adversarial, terms["cross_entropy"], terms["l1"], unlabelled, training, threshold)


def _softplus(scores: Tensor) -> Tensor:
    return F.softplus(scores.float()).mean()


def _judge_pairs(judge: nn.Module, batch: Batch, logits: Tensor) -> Tensor:
    """Return the cross-entropy of the discriminator of images with maps."""
    real = judge(torch.cat([batch.image, batch.truth], 1))
    fake = judge(torch.cat([batch.image, logits.softmax(1)], 1))
    return 0.5 * (_softplus(-real) + _softplus(fake))


def _act_pairs(judge: nn.Module, batch: Batch, weights: Weights, logits: Tensor) -> Tensor:
    """Return the loss of a network that labels: adversarial, and the weighted sum of its config."""
    maps = logits.float().softmax(1)
    loss = weights.adversarial * _softplus(-judge(torch.cat([batch.image, maps], 1)))
    if weights.l1:
        loss = loss + weights.l1 * (maps - batch.truth).abs().mean()
    return loss + _supervised(None, batch, weights, logits) if weights.cross_entropy else loss


def _judge_maps(judge: nn.Module, batch: Batch, logits: Tensor) -> Tensor:
    """Return AdvSemiSeg's loss of the discriminator."""
    return 0.5 * (_softplus(-judge(batch.truth)) + _softplus(judge(logits.softmax(1))))


def _act_maps(judge: nn.Module, batch: Batch, weights: Weights, outputs: tuple[Tensor, Tensor]) -> Tensor:
    """Return AdvSemiSeg's loss of the segmenter, self-training included."""
    logits, unlabelled = outputs[0].float(), outputs[1].float()
    scores = judge(unlabelled.softmax(1))
    accepted = scores.detach()[:, 0].float().sigmoid() > weights.threshold
    each = F.cross_entropy(unlabelled, unlabelled.detach().argmax(1), reduction="none")
    return (
        _supervised(None, batch, weights, logits)
        + weights.adversarial * _softplus(-judge(logits.softmax(1)))
        + weights.unlabelled * _softplus(-scores)
        + weights.self_training * (each * accepted).sum() / accepted.sum().clamp(min=1)
    )


def _judge_images(judge: nn.Module, batch: Batch, fake: Tensor) -> Tensor:
    """Return the cross-entropy of the discriminator of images."""
    return 0.5 * (_softplus(-judge(batch.image)) + _softplus(judge(fake)))


def _act_images(judge: nn.Module, batch: Batch, weights: Weights, fake: Tensor) -> Tensor:
    del batch
    return weights.adversarial * _softplus(-judge(fake))


def _supervised(judge: None, batch: Batch, weights: Weights, logits: Tensor) -> Tensor:
    del judge
    return weights.cross_entropy * F.cross_entropy(logits.float(), batch.label)


LOSSES = {  # of the discriminator and of the acting network, by method
    "cgan": (_judge_pairs, _act_pairs),
    "adversarial": (_judge_pairs, _act_pairs),
    "semi_supervised": (_judge_maps, _act_maps),
    "unconditional": (_judge_images, _act_images),
    "supervised": (_judge_images, _supervised),  # the first is not used
}
