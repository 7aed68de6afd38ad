"""Values that types cannot check, phases, and how configs are written, hashed and compared."""

import copy

import pytest

from configs import cgan_seg, common, dcgan, refine_seg, semi_seg, supervised_seg
from gan_seg_jax import config as config_lib
from gan_seg_jax import models
from gan_seg_jax.config import differences, digest, from_json, to_json
from gan_seg_jax.data import fields as data
from gan_seg_jax.errors import InputError
from gan_seg_jax.phases import last_phase, phase_ends, plan, updates_of
from gan_seg_jax.runs import workdirs
from gan_seg_jax.training import fields as training

D, G = "discriminator", "generator"
CONFIGS = {
    "cgan": lambda: cgan_seg.get_config(),
    "cgan:paper": lambda: cgan_seg.get_config("paper"),
    "cgan:smoke": lambda: cgan_seg.get_config("smoke"),
    "supervised": lambda: supervised_seg.get_config(),
}


def check(config):
    """As `main` does: first what is known without JAX."""
    config_lib.check(config)
    models.check(config)


def set_field(config, path, value):
    *parents, name = path.split(".")
    for parent in parents:
        config = config[parent]
    with config.ignore_type():
        config[name] = value


BAD_NETWORKS = [
    ("deeplabv3", "multi_grid", ()),
    ("deeplabv3", "multi_grid", (0, 1, 1)),
    ("deeplabv3", "aspp_channels", 0),
    ("deeplabv3", "rates", (0, 2, 4)),
    ("deeplabv2", "rates", ()),
    ("deeplabv2", "rates", (1.5,)),
    ("deeplabv2", "channels", 1.5),
    ("deeplabv1", "rate", 0),
    ("deeplabv3plus", "low_level_channels", 0),
    ("pspnet", "bins", ()),
    ("pspnet", "bins", (2, 2)),
    ("pspnet", "bins", (0,)),
    ("fcdensenet56", "bottleneck", 0),
    ("fcdensenet56", "layers", ()),
    ("fcdensenet56", "layers", (2.5,)),
    ("fcdensenet56", "growth", 0),
    ("segnet", "convs", (2.5, 2, 2, 2, 2)),
    ("fcn8s", "head_channels", 0),
    ("fcn8s", "stride", 0),
]


@pytest.mark.parametrize(("name", "field", "value"), BAD_NETWORKS)
def test_bad_values_of_networks_are_named(name, field, value):
    config = supervised_seg.get_config(name)
    set_field(config, f"networks.segmenter.{field}", value)
    with pytest.raises(InputError, match=f"config.networks.segmenter.{field} is"):
        check(config)


@pytest.mark.parametrize(
    ("field", "value"),
    [("head_factor", 10.0), ("backbone_factor", 0.1), ("layer_decay", 0.5), ("backbone_frozen_steps", 3)],
)
def test_only_a_network_with_a_backbone_has_a_head(field, value):
    config = supervised_seg.get_config("segnet")
    config.optimizers.segmenter[field] = value
    with pytest.raises(InputError, match=f"{field} is {value}.*segnet has no backbone"):
        check(config)


@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_configs_pass(name):
    check(CONFIGS[name]())


BAD = [
    *((name, value) for name in (*training.POSITIVE, *data.POSITIVE) for value in (0, -1)),
    *((name, -1) for name in (*training.NOT_NEGATIVE, *data.NOT_NEGATIVE)),
    ("seed", 2**32),
    *((name, value) for name in data.SIZES for value in ((0, 8), (8, -1), (8,), (8, 8, 8), (8.5, 8), ())),
    ("ema_decay", -0.1),
    ("ema_decay", 1.0),
    ("ema_decay", float("nan")),
    ("dtype", "float16"),
    ("resize", "fitt"),
    ("extend", "linear"),
    ("planned_steps", -1),
    ("planned_steps", 10**9),
    ("augment.scale", (0.0, 1.0)),
    ("augment.scale", (2.0, 1.0)),
    ("augment.scale", (1.0,)),
    ("augment.scale", ("a", "b")),
    ("augment.brightness", -0.1),
    ("augment.contrast", -1.0),
    ("augment.saturation", -2.0),
    ("augment.hue", 0.6),
    ("augment.jitter", 1.5),
    ("augment.gamma", -0.1),
    ("augment.greyscale", -0.1),
    ("augment.blur", 2.0),
    ("augment.blur_sigma", (0.0, 1.0)),
    ("augment.blur_sigma", (1.0, 1e9)),
    ("augment.noise", float("nan")),
    ("optimizers.generator.learning_rate", 0.0),
    ("optimizers.generator.learning_rate", -1e-3),
    ("optimizers.discriminator.learning_rate", float("nan")),
    ("optimizers.discriminator.learning_rate", float("inf")),
    ("optimizers.generator.beta1", 1.0),
    ("optimizers.generator.beta2", -0.5),
    ("optimizers.generator.weight_decay", -1.0),
    ("optimizers.generator.clip_norm", -1.0),
    ("optimizers.generator.warmup_steps", -1),
    ("networks.generator.channels", (8, 0)),
    ("networks.generator.channels", ()),
    ("networks.discriminator.channels", -4),
    ("networks.discriminator.layers", -1),
    ("networks.generator.dropout", 1.0),
    ("networks.generator.dropout", -0.1),
    ("losses.label_smoothing", 1.0),
    ("losses.label_smoothing", -0.1),
    ("losses.weights.dice", -1.0),
    ("losses.weights.focal", float("nan")),
    ("losses.hard_pixel_fraction", 0.0),
    ("losses.hard_pixel_fraction", 1.5),
    ("losses.boundary_sigma", 0.0),
    ("losses.focal_gamma", -1.0),
    ("augment.class_balance", 1.5),
    ("augment.class_balance", -0.5),
    ("optimizers.generator.l1", -1.0),
    ("optimizers.generator.l2", float("nan")),
    ("optimizers.generator.decay_at", (0.5, 1.0)),
    ("phases", ()),
    ("phases", (1,)),
    ("phases", ((1,),)),
    ("phases", ((0, ((G,),)),)),
    ("phases", ((-1, ((G,),)),)),
    ("phases", ((1, ()),)),
    ("phases", ((1, ((),)),)),
    ("phases", ((1, (G,)),)),
    ("phases", ((1, G),)),
    ("phases", ((1, 2),)),
    ("phases", (("1", ((G,),)),)),
    ("phases", ((float("inf"), ((G,),)),)),
    ("phases", ((1, ((3,),)),)),
    ("phases", ((1, ((G, G),)),)),
    ("phases", ((1, (("segmenter",),)),)),
    ("phases", ((1, (("genrator",),)),)),
]


@pytest.mark.parametrize(("field", "value"), BAD, ids=lambda x: str(x).replace(" ", ""))
def test_bad_values_are_named(field, value):
    config = cgan_seg.get_config()
    set_field(config, field, value)
    with pytest.raises(InputError) as error:
        check(config)
    assert f"config.{field} is " in str(error.value)
    assert "expected" in str(error.value)


def test_rounds_need_a_group_to_repeat():
    """In a phase of one group the other batches would be read for nothing."""
    config = cgan_seg.get_config()
    config.rounds = 3
    check(config)
    config.phases = ((1, ((D,), (G,))), (2, ((D, G),)))
    with pytest.raises(InputError, match=r"config\.rounds is 3; expected 1, .*\(2, .* has one group alone"):
        check(config)
    config.rounds = 1
    check(config)


def test_without_its_critic_a_config_has_one_round():
    assert dcgan.get_config("wgan").rounds == 3
    control = dcgan.get_config("wgan,random_discriminator")
    assert control.rounds == 1 and control.phases == ((1, ((G,),)),)
    check(control)


def test_transpose_needs_a_square():
    config = cgan_seg.get_config()
    config.augment.transpose = True
    with pytest.raises(InputError, match=r"config\.crop_size is \(96, 128\); expected square"):
        check(config)
    config.crop_size = (96, 96)
    check(config)


def test_a_role_without_an_optimizer_is_named():
    config = cgan_seg.get_config()
    with config.unlocked():
        del config.optimizers.generator
    with pytest.raises(InputError, match=r"config\.optimizers"):
        check(config)


def test_configs_are_locked():
    with pytest.raises(AttributeError, match="batch_size"):
        cgan_seg.get_config().lock().batchsize = 3


def test_phase_lengths_are_scaled():
    config = cgan_seg.get_config()
    config.phases = ((1, ((G,),)), (3, ((D,), (G,))), (0.5, [[D, G]]))
    config.steps = 900
    ends = phase_ends(config)
    assert ends == [(200, ((G,),)), (800, ((D,), (G,))), (900, ((D, G),))]
    config.steps = 7
    assert [end for end, _ in phase_ends(config)] == [2, 6, 7]
    assert last_phase(config) == 6 and last_phase(supervised_seg.get_config()) == 0


@pytest.mark.parametrize(
    ("phases", "rounds", "expected"),
    [
        (((1, ((D,), (G,))),), 1, {D: 100, G: 100}),
        (((1, ((D,), (G,))),), 5, {D: 500, G: 100}),
        (((1, ((G, D),)),), 5, {D: 100, G: 100}),
        (((1, ((G,),)), (4, ((D,), (G,)))), 1, {D: 80, G: 100}),
        (((1, ((G,), (D,), (G,))),), 2, {D: 200, G: 300}),
        (((1, ((G,),)),), 1, {D: 0, G: 100}),
    ],
)
def test_updates_of_a_role(phases, rounds, expected):
    config = cgan_seg.get_config()
    config.steps, config.phases, config.rounds = 100, phases, rounds
    assert {role: updates_of(config, role) for role in expected} == expected


def test_an_extension_belongs_to_the_last_phase():
    config = cgan_seg.get_config()
    config.phases, config.optimizers.generator.schedule = ((1, ((G,),)), (3, ((D,), (G,)))), "poly"
    config.steps = 1000
    whole = plan(config)
    config.steps, config.planned_steps = 1500, 1000
    assert phase_ends(config) == [(250, ((G,),)), (1500, ((D,), (G,)))]
    assert updates_of(config, G) == 1000 and updates_of(config, D) == 750
    assert plan(config) == whole
    assert set(whole) == {"the phases", "the poly learning rate of generator"}


def test_what_follows_from_the_number_of_steps():
    config = supervised_seg.get_config()
    config.optimizers.segmenter.schedule = "constant"
    assert plan(config) == {}
    for schedule in ("poly", "cosine", "linear", "step"):
        config.optimizers.segmenter.schedule = schedule
        assert plan(config) == {f"the {schedule} learning rate of segmenter": config.steps}
    config = semi_seg.get_config("mean_teacher")
    config.optimizers.segmenter.schedule = "constant"
    config.losses.consistency_ramp = 0.25
    assert plan(config) == {"losses.consistency_ramp": 0.25 * config.steps}


BEGUN = {"steps": 1000, "planned_steps": 0}
LENGTHS = [  # what the run began with, what is asked for -> planned steps, or what the sentence says
    (BEGUN, {"steps": 1000}, 0),
    (BEGUN, {"steps": 2000}, "config.steps is 2000 and was 1000 .*poly.*--config.extend=constant, or start a new run"),
    (BEGUN, {"steps": 2000, "extend": "constant"}, 1000),
    (BEGUN, {"steps": 1000, "extend": "constant"}, 0),
    (BEGUN, {"steps": 500}, "config.steps is 500 and was 1000 .*Either give the old value, or start .*init.segmenter"),
    (BEGUN, {"steps": 500, "extend": "constant"}, "config.steps is 500 .*give the old value"),
    ({"steps": 2000, "planned_steps": 1000}, {"steps": 2000, "extend": "constant"}, 1000),
    ({"steps": 2000, "planned_steps": 1000}, {"steps": 3000, "extend": "constant"}, 1000),
    ({"steps": 2000, "planned_steps": 1000}, {"steps": 2000}, "config.steps is 2000 and was 1000"),
    ({"steps": 2000, "planned_steps": 1000}, {"steps": 1000}, 0),
]


@pytest.mark.parametrize(("begun", "asked", "expected"), LENGTHS)
def test_a_run_that_has_begun_keeps_its_rates(tmp_path, begun, asked, expected):
    old, new = supervised_seg.get_config(), supervised_seg.get_config()
    old.update(begun)
    new.update(asked)
    if isinstance(expected, int):
        workdirs._keep_plan(new, old, tmp_path)
        assert new.planned_steps == expected
        check(new)
    else:
        with pytest.raises(InputError, match=expected):
            workdirs._keep_plan(new, old, tmp_path)


def test_a_run_that_has_begun_keeps_its_phases(tmp_path):
    """After its last phase it would go back to an earlier one."""
    old, new = refine_seg.get_config(), refine_seg.get_config()
    for config in (old, new):
        for optimizer in config.optimizers.values():
            optimizer.schedule = "constant"
    workdirs._keep_plan(new, old, tmp_path)
    new.phases = tuple((length + number, updates) for number, (length, updates) in enumerate(new.phases))
    with pytest.raises(InputError, match="config.phases is .* and was .*the phases would no longer"):
        workdirs._keep_plan(new, old, tmp_path)


@pytest.mark.parametrize("steps", [10, 1000, 10**6])
def test_where_nothing_follows_from_the_steps_a_run_may_end_anywhere(tmp_path, steps):
    old, new = supervised_seg.get_config(), supervised_seg.get_config()
    for config in (old, new):
        config.optimizers.segmenter.schedule = "constant"
        config.optimizers.segmenter.warmup_steps = 100
    new.steps = steps
    workdirs._keep_plan(new, old, tmp_path)


@pytest.mark.parametrize("name", CONFIGS)
def test_json_keeps_everything(name):
    config = CONFIGS[name]().lock()
    back = from_json(to_json(config))
    assert back == config
    assert back.is_locked
    assert digest(back) == digest(config)
    assert type(back.canvas_size) is tuple
    assert back.phases == config.phases


def test_the_digest_knows_fields_not_their_order():
    values = to_json(cgan_seg.get_config())
    turned = dict(reversed(values.items()))
    assert digest(from_json(values)) == digest(from_json(turned)) == digest(cgan_seg.get_config())
    config = cgan_seg.get_config()
    config.networks.generator.channels = (32, 64, 128, 257)
    assert digest(config) != digest(cgan_seg.get_config())


def test_differences_of_equal_configs():
    assert differences(to_json(cgan_seg.get_config()), to_json(cgan_seg.get_config())) == []


def test_differences_name_the_field():
    old = to_json(cgan_seg.get_config())
    old["networks"]["generator"]["channels"] = [32, 64]
    new = copy.deepcopy(old)
    new["networks"]["generator"]["channels"] = [8, 16]
    new["seed"] = 3
    del new["losses"]["label_smoothing"]
    new["losses"]["dice_weight"] = 2.0
    assert differences(old, new) == [
        ("losses.dice_weight", "(absent)", 2.0),
        ("losses.label_smoothing", 0.0, "(absent)"),
        ("networks.generator.channels", [32, 64], [8, 16]),
        ("seed", 0, 3),
    ]


@pytest.mark.parametrize("field", config_lib.MAY_CHANGE_ON_RESUME)
def test_what_may_change_on_resume(field):
    old, new = to_json(cgan_seg.get_config()), to_json(cgan_seg.get_config())
    new[field] = "something else"
    assert differences(old, new) == []


def test_a_nested_field_does_not_borrow_the_permission_of_another():
    """`steps` may change; a network's own attribute of that name may not."""
    old, new = to_json(cgan_seg.get_config()), to_json(cgan_seg.get_config())
    old["networks"]["generator"]["steps"], new["networks"]["generator"]["steps"] = 1, 2
    assert differences(old, new) == [("networks.generator.steps", 1, 2)]


@pytest.mark.parametrize(("word", "near"), [("smok", "smoke"), ("papr", "paper")])
def test_words_behind_the_colon(word, near):
    with pytest.raises(InputError, match=f"Did you mean '{near}'"):
        cgan_seg.get_config(word)
    assert common.words("smoke,paper,", ("smoke", "paper")) == {"smoke", "paper"}
    assert common.words(None, ("smoke",)) == set()
