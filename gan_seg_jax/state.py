"""The state of training, and `Networks`: what a method sees of it during one pass.

A *role* (`generator`, `segmenter`, `discriminator`, ...) names a network and keys its parameters, optimizer, loss and
metrics alike. The state holds arrays only; everything random is derived from `seed` and `step`.
"""

import contextlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.training import train_state

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import perturbation
from gan_seg_jax.models.network import BACKBONE

ROLES = ("segmenter", "segmenter_aux", "generator", "refiner", "discriminator", "discriminator_aux", "teacher")
SOWN = "intermediates"  # Flax's collection for what networks show beside their output
_FROZEN = optax.set_to_zero()  # one object: compiled steps compare transforms by identity


class NetworkState(train_state.TrainState):
    """A Flax `TrainState` with the network's other variables and the running average of its weights.

    Attributes:
        step: int32 scalar array, this network's own updates (a Python int would cost a second compilation).
        collections: variables other than parameters, by collection: `batch_stats` and the like; `{}` without any.
        ema_params: exponential moving average of `params`, or None where the average is off.
        ema_collections: the same for `collections`.
    """

    collections: Any
    ema_params: Any
    ema_collections: Any

    @property
    def batch_stats(self) -> Any:
        """Running statistics of the normalisation layers (and spectral-norm vectors); `{}` without any."""
        return self.collections.get("batch_stats", {})

    @property
    def ema_batch_stats(self) -> Any:
        """Running average of `batch_stats`, or None where the average is off."""
        return None if self.ema_collections is None else self.ema_collections.get("batch_stats", {})


class AdversarialState(struct.PyTreeNode):
    """Everything that training changes; arrays only.

    Attributes:
        step: int32, training steps done, skipped ones included.
        seed: uint32, the only source of randomness, traced so that a new seed does not recompile.
        skipped_steps: int32, steps whose losses or gradients were not finite and that moved nothing.
        bad_steps: int32, how many of the latest steps in a row were skipped.
        networks: the state of each role.
    """

    step: jax.Array
    seed: jax.Array
    skipped_steps: jax.Array
    bad_steps: jax.Array
    networks: dict[str, NetworkState]


def fold_name(key: chex.PRNGKey, name: str) -> chex.PRNGKey:
    """Return the key of the stream called `name`: the same in every run, another for every name."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def step_key(state: AdversarialState) -> chex.PRNGKey:
    """Return the key of the state's current step, `fold_in(key(seed), step)`."""
    return jax.random.fold_in(jax.random.key(state.seed), state.step)


class Networks(struct.PyTreeNode):
    """An immutable view of all networks for one pass.

    Attributes:
        states: the networks as they stand.
        params: parameters that replace those of `states`: the ones being differentiated.
        collections: statistics newer than those of `states`, from the passes so far.
        rng: the key of this pass; every `apply` derives its own keys from it.
        step: int32, the training step, for ramps and start iterations.
        moving: roles that move in this phase of training (static).
        acted: roles applied so far, averages excluded (static).
        calls: how often `apply` ran so far (static).
        penalty: whether penalties that are due every `config.penalty_every` steps are due now (static).
        frozen: roles whose backbone stays as it is, and in inference mode, in this step (static).
    """

    states: dict[str, NetworkState]
    rng: chex.PRNGKey
    step: jax.Array
    params: dict[str, Any] = struct.field(default_factory=dict)
    collections: dict[str, Any] = struct.field(default_factory=dict)
    moving: frozenset[str] = struct.field(pytree_node=False, default=frozenset())
    acted: frozenset[str] = struct.field(pytree_node=False, default=frozenset())
    calls: int = struct.field(pytree_node=False, default=0)
    penalty: bool = struct.field(pytree_node=False, default=False)
    frozen: frozenset[str] = struct.field(pytree_node=False, default=frozenset())

    def has_average(self, role: str) -> bool:
        """Return whether `apply` can use averaged weights of a role."""
        return self.states[role].ema_params is not None

    def apply(
        self,
        role: str,
        *inputs: Any,
        train: bool | None = None,
        ema: bool = False,
        update: bool = True,
        capture: str = "",
        alone: bool = False,
        drop_features: float = 0.0,
    ) -> tuple[Any, "Networks"]:
        """Apply a network.

        Args:
            role: whose network.
            *inputs: what the network takes.
            train: training mode (batch statistics, dropout); None means: if the role moves in this phase.
            ema: use the averaged weights and statistics, in inference mode unless `train` says otherwise; constant for
                differentiation.
            update: keep the new statistics. False starts from the statistics as they stood before the pass and drops
                the new ones, so that the second pass through a spectrally normalised network sees the same sigma.
            capture: name of what the network sows beside its output ("encoder": its deepest map; "decoder": the last
                map before the logits), or "".
            alone: in training mode without `update`, apply it to each example by itself: batch statistics are those of
                one example, so the others do not change its result.
            drop_features: where not 0, the decoder also sees the encoder's features without this share of their
                channels (`models.perturbation`): of b examples the output has 2 b rows, for each that of the features
                as they are and the other (`models.rows`).

        Returns:
            The network's output (with `capture` a pair of it and what was captured) and the successor of this view.

        Raises:
            ValueError: `ema` for a role that has no average.
            InputError: the network does not sow `capture`, or cannot take these inputs.
        """
        state = self.states[role]
        if ema:
            if not self.has_average(role):
                raise ValueError(f"{role} has no averaged weights: set config.ema_decay and config.networks.{role}.ema")
            params, collections = state.ema_params, state.ema_collections
            train, update = bool(train), False
        else:
            params = self.params.get(role, state.params)
            collections = self.collections.get(role, state.collections) if update else state.collections
            train = role in self.moving if train is None else train
        if role in self.frozen:
            params = {**params, BACKBONE: jax.lax.stop_gradient(params[BACKBONE])}
        variables = {"params": params, **collections}
        successor = self.replace(calls=self.calls + 1, acted=self.acted if ema else self.acted | {role})
        if not (train or capture or drop_features):
            return state.apply_fn(variables, *inputs, train=False), successor
        key = jax.random.fold_in(fold_name(self.rng, role), self.calls)
        mutable = (list(collections) if train else []) + ([SOWN] if capture else [])

        def run(key, *inputs):
            rngs = {name: fold_name(key, name) for name in ("dropout", "noise")} if train else {}
            with _intercepted(drop_features, key, frozen=role in self.frozen):
                return state.apply_fn(variables, *inputs, train=train, rngs=rngs, mutable=mutable)

        def run_one(key, *inputs):
            return jax.tree.map(lambda x: x[0], run(key, *(x[None] for x in inputs))[0])

        try:
            if alone:
                return jax.vmap(run_one)(jax.random.split(key, len(inputs[0])), *inputs), successor
            output, new = run(key, *inputs)
        except InputError as error:
            raise InputError(f"config.networks.{role}: {error}") from error
        captured = new.pop(SOWN, {}) if capture else {}
        if train and update and collections:
            successor = successor.replace(collections={**self.collections, role: new})
        return ((output, find_sown(captured, capture, role)) if capture else output), successor


def _infer_backbone(call, args, kwargs, context):
    """Call a method of a network, that of its backbone in inference mode (`nn.intercept_methods`)."""
    is_backbone = context.module.path == (BACKBONE,) and context.method_name == "__call__"
    return call(*args, **{**kwargs, "train": False} if is_backbone else kwargs)


@contextlib.contextmanager
def _intercepted(drop_features: float, key: chex.PRNGKey, *, frozen: bool) -> Iterator[None]:
    """Apply a network within as `Networks.apply` says of `drop_features`, and of a backbone that is frozen."""
    with contextlib.ExitStack() as stack:
        if frozen:
            stack.enter_context(nn.intercept_methods(_infer_backbone))
        if drop_features:
            stack.enter_context(perturbation.decoded_twice(drop_features, fold_name(key, "features")))
        yield


def find_sown(captured: Mapping[str, Any], name: str, role: str) -> jax.Array:
    """Return what a network (or a part of it, such as its backbone) sowed under `name`.

    Raises:
        InputError: nothing of that name.
    """
    paths = [(path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(captured)]
    found = [leaf for path, leaf in paths if any(getattr(part, "key", None) == name for part in path)]
    if not found:
        raise InputError(f"The network of {role} shows no {name!r} features; use one that segments.")
    return found[-1]


class LossOutput(NamedTuple):
    """What a method's `losses` returns.

    Attributes:
        losses: scalar loss of each role.
        nets: the successor view, which carries new statistics.
        metrics: scalars worth plotting.
        accept: role -> bool; False leaves that whole network as it was. Roles that are not named are accepted.
    """

    losses: dict[str, jax.Array]
    nets: Networks
    metrics: dict[str, jax.Array] = {}  # noqa: RUF012 - never mutated
    accept: dict[str, jax.Array] = {}  # noqa: RUF012 - never mutated


class Method(Protocol):
    """A module of pure functions that says what its networks do and what each is judged by.

    Every method has every name below. `score_map` and `discriminator_inputs` are None where they have no meaning.
    """

    TASK: str
    """"segmentation", "generation" or "translation": how a run is scored and what chooses its best checkpoint."""
    STREAMS: tuple[str, ...]
    """The streams that a batch must hold; `labelled` always."""
    FIELDS: Mapping[str, Any]
    """The fields of a config that it alone reads, those of `losses` in a group, and their kinds (`config_fields`)."""

    def build(self, config: Any) -> dict[str, nn.Module]:
        """Return the network of each role."""
        ...

    def forward(self, nets: Networks, batch: Any, rng: chex.PRNGKey, config: Any) -> tuple[Any, Networks]:
        """Return the outputs of the acting networks for the batch, and the successor view."""
        ...

    def losses(self, nets: Networks, outputs: Any, batch: Any, rng: chex.PRNGKey, config: Any) -> LossOutput:
        """Return a scalar loss per role, from the batch and the outputs of `forward`."""
        ...

    def predict(self, nets: Networks, batch: Any, rng: chex.PRNGKey, config: Any) -> jax.Array | dict[str, jax.Array]:
        """Return the outcome for `batch["labelled"]`; `nets` is in inference mode.

        Returns:
            By `TASK`:
            segmentation: class logits float32 [b, h, w, k].
            generation: {"image": float32 [b, h, w, 3] in [-1, 1]}; of pairs also "label", int32 [b, h, w], the class
                ids of that image, 255 where a label that it was made of is unknown.
            translation: {"image": float32 [b, h, w, 3] in [-1, 1]}, made of the view `config.input`. These methods also
                have `view(stream, name, config)`, the images [b, h, w, 3] of a view, and `known(stream, config)`, bool
                [b, h, w], the pixels that are compared.
        """
        ...

    score_map: Callable[[Networks, jax.Array, jax.Array, Any], jax.Array] | None
    """Function of (nets, image, mask, config): how real the discriminator finds pairs of image and mask.

    `nets` is in inference mode, `image` [b, h, w, 3] in [-1, 1], `mask` class probabilities or one-hot labels [b, h, w,
    k], zero where the class is unknown. Returns float [b, h', w'], a value a patch (h' = w' = 1 where it scores whole
    images): 0 fake, 1 real, 1/2 where it decides. None where no discriminator compares truth and prediction.
    """
    discriminator_inputs: Callable[[Networks, Any, chex.PRNGKey, Any], tuple[Any, Any]] | None
    """Function of (nets, batch, rng, config): what the discriminator is given in training, of truth and prediction.

    Returns two `methods.game.DiscriminatorInputs`, real and fake. None where these are what `score_map` makes of the
    image with the one-hot truth and with the softmax, or where there is no `score_map`.
    """


class _Initializer(Networks):
    """A view whose `apply` makes the variables of a role at its first call; `collections` gathers all variables."""

    modules: Mapping[str, nn.Module] = struct.field(pytree_node=False, default_factory=dict)

    def has_average(self, role):
        del role
        return False

    def apply(self, role, *inputs, train=None, ema=False, update=True, capture="", alone=False, drop_features=0.0):
        del train, ema, update, alone
        module, view = self.modules[role], self
        if role not in self.collections:
            rngs = {"params": fold_name(self.rng, role)}
            output, variables = module.init_with_output(rngs, *inputs, train=False)
            view = self.replace(collections={**self.collections, role: variables})
            if not (capture or drop_features):
                return output, view
        mutable = [SOWN] if capture else False
        with _intercepted(drop_features, self.rng, frozen=False):
            output = module.apply(view.collections[role], *inputs, train=False, mutable=mutable)
        if capture:
            output = output[0], find_sown(output[1][SOWN], capture, role)
        return output, view


def init_variables(
    method: Method | ModuleType, modules: Mapping[str, nn.Module], batch: Any, config: Any, seed: int
) -> dict[str, Any]:
    """Return freshly initialised variables of every role.

    The method's own `forward` and `losses` run once on `batch`, so no method has to describe its networks' inputs. A
    role's values depend on the seed and on its name only: the same generator starts equal under every method.

    Args:
        method: the method.
        modules: role -> network, from `method.build`.
        batch: an example batch (streams of arrays; the values do not matter).
        config: the run's config.
        seed: of the run.

    Returns:
        role -> {"params": ..., other collections}.

    Raises:
        ValueError: a network was never applied by the method.
    """
    # Hundreds of small random-number kernels: unoptimised, they compile in 2 s instead of 11.
    options = {"xla_backend_optimization_level": 0}
    variables = jax.jit(_initializer(method, modules, config), compiler_options=options)(batch, jnp.uint32(seed))
    missing = sorted(set(modules) - set(variables))
    if missing:
        raise ValueError(f"the method builds {missing} but neither its forward nor its losses applies them")
    return variables


def variable_shapes(
    method: Method | ModuleType, modules: Mapping[str, nn.Module], batch: Any, config: Any
) -> dict[str, Any]:
    """Return the shapes and dtypes of what `init_variables` returns, without computing it."""
    return jax.eval_shape(_initializer(method, modules, config), batch, jnp.uint32(0))


def _initializer(method, modules, config):
    """Return a function of (batch, seed) to the variables of every role."""

    def init(batch, seed):
        key = fold_name(jax.random.key(seed), "init")
        nets = _Initializer(states={}, rng=key, step=jnp.int32(0), modules=modules)
        outputs, nets = method.forward(nets, batch, key, config)
        return method.losses(nets, outputs, batch, key, config).nets.collections

    return init


def create_state(
    variables: Mapping[str, Any],
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, optax.GradientTransformation],
    *,
    seed: int,
    ema_roles: frozenset[str] = frozenset(),
) -> AdversarialState:
    """Return the state before the first step.

    Args:
        variables: role -> {"params": ..., other collections}.
        modules: role -> network. Built once: compiled steps compare `apply_fn` and `tx` by identity.
        optimizers: role -> optax transform; a role without one is frozen and has no optimizer state.
        seed: of the run, 0 to 2**32 - 1.
        ema_roles: roles that keep an average of their weights.
    """

    def first(variables, seed):
        networks = {}
        for role, module in modules.items():
            collections = dict(variables[role])
            params = collections.pop("params", {})
            tx = optimizers.get(role, _FROZEN)
            average = (params, collections) if role in ema_roles else (None, None)
            networks[role] = NetworkState(
                step=jnp.int32(0),
                apply_fn=module.apply,
                params=params,
                tx=tx,
                opt_state=tx.init(params),
                collections=collections,
                ema_params=average[0],
                ema_collections=average[1],
            )
        zero = jnp.int32(0)
        state = AdversarialState(step=zero, seed=seed, skipped_steps=zero, bad_steps=zero, networks=networks)
        return jax.tree.map(jnp.copy, state)  # a buffer of its own for every leaf: a step donates each once

    # One program: leaf by leaf, a small one would be compiled for each shape.
    return jax.jit(first)(dict(variables), jnp.uint32(seed))


def inference_view(state: AdversarialState, rng: chex.PRNGKey) -> Networks:
    """Return a view in which no role moves and averaged weights stand in for the weights where there are any."""

    def averaged(network: NetworkState) -> NetworkState:
        if network.ema_params is None:
            return network
        return network.replace(params=network.ema_params, collections=network.ema_collections)

    states = {role: averaged(network) for role, network in state.networks.items()}
    return Networks(states=states, rng=rng, step=state.step)


def parameter_counts(state: AdversarialState) -> dict[str, int]:
    """Return role -> number of parameters."""
    return {role: sum(p.size for p in jax.tree.leaves(net.params)) for role, net in state.networks.items()}
