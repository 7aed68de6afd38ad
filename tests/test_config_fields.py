"""A config.json of somebody else is a config or is refused in a sentence, whatever has been written into it."""

import json

import pytest

from configs import classical, common
from gan_seg_jax import config as config_lib
from gan_seg_jax import config_fields, models, optimizer_fields
from gan_seg_jax.errors import InputError
from gan_seg_jax.methods import fields_of
from gan_seg_jax.runs import checkpoint
from tests.test_methods import CONFIGS, load

NESTED = {}
for _ in range(300):
    NESTED = {"a": NESTED}
HOSTILE = [
    None,
    "",
    "x",
    "\0",
    "1",
    "../" * 3000,
    True,
    -1,
    0,
    1,
    10**9,
    10**400,
    1e308,
    -1e308,
    float("nan"),
    float("inf"),
    [],
    [None],
    [-1],
    [0, 0],
    [10**9, 10**9],
    ["x"],
    [[]],
    [[[]]],
    [1] * 5000,
    {},
    {"x": 1},
    {"": {"": None}},
    NESTED,
    2**31,
    0.5,
    -0.5,
    [[1, [["x"]]]],
    [[10**300, [["generator"]]]],
    "nan",
    "\ud800",
]


def text_of(name):
    config = load(name)
    config.num_classes, config.class_names, config.class_colors = 2, ("a", "b"), ((0, 0, 0), (9, 9, 9))
    return config_lib.to_json(config)


def places(values):
    """Yield (group, name) of every group and field."""
    for name, value in list(values.items()):
        yield values, name
        if isinstance(value, dict):
            yield from places(value)


def changed(values, path, value):
    group = values
    for name in path[:-1]:
        group = group[name]
    if value is KeyError:
        del group[path[-1]]
    else:
        group[path[-1]] = value
    return values


def read(values):
    config_fields.check_fields(values, fields_of())
    config = config_lib.from_json(values)
    config_lib.check(config)
    models.check(config)
    return config


@pytest.mark.parametrize("name", [*CONFIGS, "supervised_seg:fcn8s", "supervised_seg:pspnet,paper"])
def test_shipped_configs_are_configs(name):
    assert read(text_of(name)) is not None


def test_classical_configs_are_configs():
    assert read(config_lib.to_json(classical.get_config("majority"))).steps == 0


def test_the_shared_fields_are_those_of_the_configs():
    """Every shared field has a kind here, and no other has."""
    defaults = config_lib.to_json(common.get_config())
    assert set(defaults) == {*config_fields.SHARED, "phases", *config_fields.BY_ROLE}
    for name, kind in config_fields.SHARED.items():
        if isinstance(kind, dict):
            assert set(defaults[name]) == set(kind), name
    assert set(defaults["losses"]["weights"]) == set(config_fields.SHARED["losses"]["weights"])
    assert set(config_lib.to_json(common.adam())) == set(optimizer_fields.KINDS)


def own_fields(config):
    """Yield the method and the fields beyond the shared ones, of a config and of the runs before it."""
    names = {*config} - {*config_fields.SHARED, *config_fields.BY_ROLE, *config_fields.OPTIONAL, "phases"}
    yield config.method, names, {*config.losses} - {*config_fields.SHARED["losses"]}
    for prior in config.prior_runs.values():
        yield from own_fields(prior)


def test_a_methods_own_fields_are_those_of_its_configs():
    """None is declared that no config has; that all are declared, the shipped configs show above."""
    found = {}
    for name in CONFIGS:
        for method, fields, losses in own_fields(load(name)):
            kept = found.setdefault(method, (set(), set()))
            kept[0].update(fields)
            kept[1].update(losses)
    declared = {method: fields_of(method) for method in found}
    assert found == {name: ({*kinds} - {"losses"}, {*kinds["losses"]}) for name, kinds in declared.items()}


def test_a_stored_config_may_have_the_fields_of_another_method():
    """As it has where `--config.method` is set over the config of another."""
    values = text_of("semi_seg:mean_teacher")
    values["method"] = "supervised"
    assert read(values).losses.confidence_threshold > 0


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    ["cgan_seg", *(pytest.param(name, marks=SLOW) for name in ("dcgan:joint", "refine_seg:unet", "semi_seg:s4gan"))],
)
def test_whatever_a_field_holds_is_a_config_or_a_sentence(name):
    values, refused, tried = text_of(name), 0, 0
    for group, field in list(places(values)):
        kept = group[field]
        for value in [*HOSTILE, KeyError]:
            tried += 1
            if value is KeyError:
                del group[field]
            else:
                group[field] = value
            try:
                read(values)
            except InputError as error:
                refused += 1
                assert str(error).startswith(("config.", "Unknown config field")) and len(str(error)) < 4000, error
        group[field] = kept
    assert refused > 0.7 * tried > 1000
    read(values)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("stepz",), 3, "Unknown config field 'stepz'. Did you mean 'steps'"),
        (("losses", "dise"), 3, "Unknown config field 'losses.dise'"),
        (("steps",), "100", "config.steps is '100'; expected a whole number"),
        (("data_dir",), "\ud800", "config.data_dir is '.ud800'; expected text"),
        (("init", "__class__"), "", "config.init is '__class__'; expected names of roles"),
        (("networks", "generator", "__class__"), 1, "is '__class__'; expected names of attributes"),
        (("seed",), KeyError, "config.seed is missing"),
        (("tensorboard",), 1, "config.tensorboard is 1; expected true or false"),
        (("batch_size",), 10**9, "config.batch_size is 1000000000; expected at most"),
        (("canvas_size",), [30_000, 30_000], "config.canvas_size is .*1 to 16384 each"),
        (("crop_size",), [16_000, 16_000], "config.crop_size is .*at most 67108864 pixels"),
        (("scenes", "counts"), [10**9, 1, 1], "config.scenes.counts is"),
        (("networks", "generator", "channels"), [10**6], "config.networks.generator.channels is .*at most 65536"),
        (("networks", "discriminator", "layers"), 10**6, "config.networks.discriminator.layers is .*at most 256"),
        (("optimizers", "generator", "learning_rate"), 10**400, "config.optimizers.generator.learning_rate is"),
        (("class_colors",), [[0, 0, 0], [1, 2, 900]], "config.class_colors is"),
        (("class_names",), ["a"], "config.class_names is"),
    ],
)
def test_what_is_wrong_is_named(path, value, words):
    with pytest.raises(InputError, match=words):
        read(changed(text_of("cgan_seg"), path, value))


def test_a_stored_config_is_read_in_the_same_way(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(changed(text_of("cgan_seg"), ("steps",), None)))
    with pytest.raises(InputError, match=r"config\.json cannot be used: config\.steps is None; expected"):
        checkpoint.read_config(tmp_path)


def test_former_names_are_read_by_their_present_ones():
    values, again = text_of("dcgan"), text_of("dcgan")
    priors = values["prior_runs"]
    priors["judge"] = priors.pop("feature_network")
    for config in (values, priors["judge"]):
        config["judge"] = config.pop("feature_network")
    assert config_fields.present_names(values) == again
    for stranger in (None, [1], {"prior_runs": 3}, {"prior_runs": {"judge": 3}}, NESTED):
        config_fields.present_fields(stranger)


def test_fields_that_older_runs_lack_are_those_that_change_nothing():
    values, again = text_of("dcgan"), text_of("dcgan")
    for config in (values, values["prior_runs"]["feature_network"]):
        del config["patience"]
    assert config_fields.present_fields(values) == again
