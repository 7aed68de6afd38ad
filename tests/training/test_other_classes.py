"""A run that starts from one with other classes takes all but what they shape."""

import jax
import numpy as np
import pytest

from configs import supervised_seg
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import example_batch
from gan_seg_jax.methods import get_method
from gan_seg_jax.runs import checkpoint
from gan_seg_jax.state import variable_shapes
from gan_seg_jax.training import start


def five_classes(tiny, **fields):
    """Return the config of the tiny conditional GAN, started from its run, for five classes where that has three."""
    config = checkpoint.read_config(tiny.cgan).unlock()
    config.num_classes, config.class_names = 5, tuple("abcde")
    config.class_colors = tuple((number, 0, 0) for number in range(5))
    config.init.generator = config.init.discriminator = str(tiny.cgan)
    config.update_from_flattened_dict(fields)
    return config


def arrays(config, tmp_path, role):
    networks = start.initial_state(get_method(config), config, tmp_path).networks
    return checkpoint.flatten({"params": networks[role].params, **networks[role].collections})


def test_all_but_the_head_is_taken_and_said(tiny, tmp_path, capsys):
    config = five_classes(tiny)
    for role in ("generator", "discriminator"):
        found = arrays(config, tmp_path, role)
        stored = checkpoint.flatten(checkpoint.restore_networks(tiny.cgan, (role,))[role])
        first = arrays(five_classes(tiny, **{f"init.{role}": "random"}), tmp_path, role)
        head = {path for path in found if np.shape(stored[path]) != np.shape(found[path])}
        assert head == (
            {"params/logits/kernel", "params/logits/bias"} if role == "generator" else {"params/conv_0/kernel"}
        )
        for path, value in found.items():
            np.testing.assert_array_equal(value, first[path] if path in head else stored[path], err_msg=path)
        said = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"The {role}")]
        assert "trained for 3 classes, this run has 5" in said[0] and ", ".join(sorted(head)) in said[0]


def test_the_whole_backbone_is_taken():
    config = supervised_seg.get_config("fcn32s,smoke")
    config.num_classes, config.class_names = 5, tuple("abcde")
    config.class_colors = tuple((number, 0, 0) for number in range(5))
    trained = config.copy_and_resolve_references().unlock()
    trained.num_classes, trained.class_names, trained.class_colors = 3, tuple("fgh"), config.class_colors[:3]

    def variables(run, fill):
        method = get_method(run)
        batch = jax.eval_shape(lambda: example_batch(method.STREAMS, run))
        shapes = variable_shapes(method, method.build(run), batch, run)["segmenter"]
        return jax.tree.map(lambda leaf: np.full(leaf.shape, fill, leaf.dtype), shapes)

    stored = checkpoint.flatten(variables(trained, 1))
    first, origin = variables(config, 0), "The segmenter of a run"
    found = start._without_head(get_method(config), config, "segmenter", first, stored, trained, origin)
    head = {path for path, value in found.items() if not value.all()}
    assert head == {"params/score_5/kernel", "params/score_5/bias"}
    assert sum("/backbone/" in path for path in found) == 100


def test_other_differences_and_networks_that_learn_no_more_are_refused(tiny, tmp_path):
    with pytest.raises(InputError, match=r"another architecture: .* is \(8,\), expected \(12,\)"):
        arrays(five_classes(tiny, **{"networks.generator.channels": (4, 12)}), tmp_path, "generator")
    frozen = five_classes(tiny, phases=((1, (("discriminator",),)),))
    with pytest.raises(InputError, match="another architecture: params/logits"):
        arrays(frozen, tmp_path, "generator")


@pytest.mark.slow
def test_as_many_classes_in_another_order_are_other_classes(tiny, tmp_path, capsys):
    names = checkpoint.read_config(tiny.cgan).class_names
    order = {"num_classes": 3, "class_colors": ((1, 0, 0), (2, 0, 0), (3, 0, 0)), "class_names": names[::-1]}
    found = arrays(five_classes(tiny, **order), tmp_path, "generator")
    stored = checkpoint.flatten(checkpoint.restore_networks(tiny.cgan, ("generator",))["generator"])
    differing = {path for path in found if not np.array_equal(found[path], stored[path])}
    assert "params/logits/kernel" in differing and differing <= {"params/logits/kernel", "params/logits/bias"}
    said = f"trained for the classes {', '.join(names)}, this run has {', '.join(names[::-1])}: all of it is taken but"
    assert said in capsys.readouterr().out
    with pytest.raises(InputError, match="it moves in no phase; name a run with the same"):
        arrays(five_classes(tiny, **order, phases=((1, (("discriminator",),)),)), tmp_path, "generator")
    assert set(arrays(five_classes(tiny, **{**order, "class_names": names}), tmp_path, "generator")) == set(found)
    assert "trained for" not in capsys.readouterr().out
