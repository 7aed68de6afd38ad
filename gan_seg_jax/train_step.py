"""One training step for every method: the only place with gradients.

Its meaning is textbook: *groups in order, each on the current state*. What it saves is work: the acting networks run
forward once and are differentiated once per distinct loss, as long as none of them has moved
(`jax.vjp` of `forward`, pulled back by the cotangents that the losses give at its outputs).
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from gan_seg_jax.augment import mixing, paired
from gan_seg_jax.errors import InputError
from gan_seg_jax.models.network import BACKBONE
from gan_seg_jax.state import AdversarialState, Networks, NetworkState, fold_name, step_key

Updates = tuple[tuple[str, ...], ...]


def train_step(
    state: AdversarialState,
    batch: Any,
    class_weights: jax.Array | None = None,
    *,
    method: Any,
    config: Any,
    updates: Updates,
    penalty: bool = False,
    frozen: frozenset[str] = frozenset(),
    images: jax.sharding.Sharding | None = None,
) -> tuple[AdversarialState, dict[str, jax.Array]]:
    """Update every group of roles in order.

    A step is a transaction: if any loss, gradient or statistic of it is not finite, all networks stay bit-unchanged,
    the step and the data advance and `skipped_steps` counts. With `config.rounds = n` the leaves of `batch` have a
    leading axis of n slices; all but the last group run once per slice, on fresh outputs of `forward`.

    Args:
        state: the state.
        batch: stream -> the host's arrays (`paired.prepare`).
        class_weights: float32 [k] in place of `config.losses.class_weights`: those are counted in the labels at hand,
            and as an argument do not recompile. None leaves the config's.
        method: the method (static).
        config: the run's config (static).
        updates: groups of roles: who moves, in which order (static).
        penalty: whether lazy penalties are due in this step (static).
        frozen: roles whose backbone stays as it is: weights, statistics, moments and averages (static).
        images: how images and maps [b, h, w, ...] lie on the devices, `parallel.image_sharding` (static); None leaves
            them as their examples do.

    Returns:
        The next state and metrics: `loss/ROLE`, `grad_norm/ROLE`, the method's own, and `skipped` (0 or 1).
    """
    if class_weights is not None:
        config = _with_class_weights(config, class_weights)
    key = step_key(state)
    networks, metrics, finite = state.networks, {}, jnp.bool_(True)
    for number in range(config.rounds):
        last = number == config.rounds - 1
        piece = batch if config.rounds == 1 else jax.tree.map(lambda x, n=number: x[n], batch)
        view = Networks(
            states=networks,
            rng=jax.random.fold_in(key, number),
            step=state.step,
            moving=frozenset(role for group in updates for role in group),
            penalty=penalty,
            frozen=frozen,
        )
        networks, new, ok = _run_groups(view, piece, updates if last else updates[:-1], method, config, images)
        metrics, finite = {**new, **metrics}, finite & ok
    networks = {role: _average(new, state.networks[role], config.ema_decay) for role, new in networks.items()}
    networks |= {role: _with_backbone_of(state.networks[role], networks[role]) for role in frozen}
    networks = _select(finite, networks, state.networks)
    skipped = jnp.where(finite, 0, 1)
    state = state.replace(
        step=state.step + 1,
        networks=networks,
        skipped_steps=state.skipped_steps + skipped,
        bad_steps=jnp.where(finite, 0, state.bad_steps + 1),
    )
    return state, {**metrics, "skipped": skipped}


def _with_class_weights(config: Any, class_weights: jax.Array) -> Any:
    """Return a copy of the config with these weights, traced where the config's own are numbers."""
    config = config.copy_and_resolve_references()
    with config.unlocked(), config.losses.ignore_type():
        config.losses.class_weights = class_weights
    return config


def _run_groups(view: Networks, batch, groups: Updates, method, config, images):
    """Run the groups on one batch; return the networks, the metrics and whether all was finite."""
    start = networks = view.states
    keep: dict[str, jax.Array] = {}  # accept of the roles that have been judged
    metrics, finite, forward = {}, jnp.bool_(True), None
    rng = {name: fold_name(view.rng, name) for name in ("augment", "forward", "losses")}
    batch = _prepare(batch, rng["augment"], config)
    if images is not None:
        divide = lambda x: jax.lax.with_sharding_constraint(x, images) if x.ndim > 2 else x
        batch = jax.tree.map(divide, batch)
    for number, group in enumerate(groups):
        if forward is None:
            forward = _forward(view.replace(states=networks, rng=rng["forward"]), batch, method, config)
            acting = forward[2]
            for role in sorted(acting.acted & view.moving & acting.collections.keys()):
                new = networks[role].replace(collections=acting.collections[role])
                networks = {**networks, role: _select(keep[role], new, start[role]) if role in keep else new}
        outputs, through, acting = forward
        # Each player's pass draws its own noise, dropout and augmentation.
        key = jax.random.fold_in(rng["losses"], number)
        nets = acting.replace(states=networks, rng=key, params={}, calls=0)
        losses, grads, out = _judge(nets, outputs, through, batch, group, method, config)
        norms = {role: optax.tree.norm(grads[role]) for role in group}
        finite &= jnp.all(jnp.isfinite(jnp.stack([*losses.values(), *norms.values()])))
        for role in group:
            new = networks[role].apply_gradients(grads=grads[role])
            if role in view.frozen:  # weight decay
                new = _with_backbone_of(networks[role], new)
            if role not in acting.acted:
                new = new.replace(collections=out.nets.collections.get(role, new.collections))
            finite &= _all_finite(new.collections)
            if role in out.accept:
                keep[role] = out.accept[role] & keep.get(role, True)
                new = _select(keep[role], new, start[role])
            networks = {**networks, role: new}
        reported = {f"loss/{role}": losses[role] for role in group} | {
            f"grad_norm/{role}": norms[role] for role in group
        }
        metrics = {**out.metrics, **reported, **metrics}
        if not config.share_forward and acting.acted & set(group):
            forward = None  # an acting network has moved: its outputs are stale
    return networks, metrics, finite


def _prepare(batch, key, config):
    """Return the batch as methods see it: augmented, labelled images mixed with each other where that is on."""
    options = config.augment
    batch = {
        name: paired.prepare(stream, fold_name(key, name), crop_size=config.crop_size, options=options, train=True)
        for name, stream in batch.items()
    }
    if options.cutmix or options.classmix:
        key = fold_name(key, "mix")
        mixed = mixing.mix_pairs(batch["labelled"], key, options=options, num_classes=config.num_classes)
        batch = {**batch, "labelled": mixed}
    return batch


def _forward(nets: Networks, batch, method, config):
    """Run `method.forward` once; return its outputs, their pullback to the moving parameters, and the view."""

    def act(params):
        return method.forward(nets.replace(params=params), batch, nets.rng, config)

    if config.rematerialize:
        act = jax.checkpoint(act, policy=_is_product)
    return jax.vjp(act, {role: nets.states[role].params for role in sorted(nets.moving)}, has_aux=True)


def _is_product(primitive, *_, **__):
    """Return whether an operation's results are kept for the backward pass: those that take long to compute again."""
    return primitive.name in ("conv_general_dilated", "dot_general")


def _judge(nets: Networks, outputs, through, batch, group, method, config):
    """Return the group's losses and gradients, and the method's `LossOutput` (its losses aside).

    Each distinct loss is pulled back once: directly to the group's parameters and to the outputs, and from there
    through `forward` where a role of this loss acted in it.
    """
    shared: list[tuple[str, ...]] = []  # roles by distinct loss; set while tracing

    def judge(params, outputs):
        out = method.losses(nets.replace(params=params), outputs, batch, nets.rng, config)
        missing = [role for role in group if role not in out.losses]
        if missing:
            raise InputError(
                f"config.phases moves {missing[0]}, but the method has losses for {sorted(out.losses)} only."
            )
        distinct: dict[int, list[str]] = {}
        for role in group:
            distinct.setdefault(id(out.losses[role]), []).append(role)
        shared[:] = [tuple(roles) for roles in distinct.values()]
        return tuple(out.losses[roles[0]] for roles in shared), out._replace(losses={})

    own = {role: nets.states[role].params for role in group}
    values, pull, out = jax.vjp(judge, own, outputs, has_aux=True)
    losses, grads = {}, {}
    for number, roles in enumerate(shared):
        direct, at_outputs = pull(tuple(jnp.full_like(v, i == number) for i, v in enumerate(values)))
        acted = nets.acted & set(roles)
        inner = through(at_outputs)[0] if acted else {}
        for role in roles:
            losses[role] = values[number]
            grads[role] = jax.tree.map(jnp.add, direct[role], inner[role]) if role in acted else direct[role]
    return losses, grads, out


def _average(new: NetworkState, old: NetworkState, decay: float) -> NetworkState:
    """Advance the running average by one step, if the network moved.

    average <- d average + (1 - d) weights, d = min(decay, (1 + t) / (10 + t)) after t updates, so that the first
    weights are soon forgotten.
    """
    if new.ema_params is None:
        return new
    d = jnp.minimum(decay, (1.0 + new.step) / (10.0 + new.step))

    def blend(average, value):
        return jnp.where(new.step == old.step, average, (d * average + (1.0 - d) * value).astype(average.dtype))

    return new.replace(
        ema_params=jax.tree.map(blend, old.ema_params, new.params),
        ema_collections=jax.tree.map(blend, old.ema_collections, new.collections),
    )


def _with_backbone_of(old: NetworkState, new: NetworkState) -> NetworkState:
    """Return `new` with all that is kept under the backbone's name, the optimizer's moments too, as in `old`."""

    def choose(path, a, b):
        return a if any(getattr(key, "key", None) == BACKBONE for key in path) else b

    return jax.tree_util.tree_map_with_path(choose, old, new)


def _select(condition: jax.Array, new: Any, old: Any) -> Any:
    """Return `new` where the scalar condition holds, else `old`, leaf by leaf and bit by bit."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _all_finite(tree: Any) -> jax.Array:
    """Return whether every number of the tree is finite.

    One reduction over all of them: XLA would write a tree of one for each leaf anew into every program that selects a
    leaf by it, and take most of its time for that.
    """
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.isfinite(jnp.concatenate([jnp.zeros(1), *leaves])))
