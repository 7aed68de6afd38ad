"""The step as a textbook would write it, for comparison: it shares no pass and no line with the package."""

import copy
import zlib

import jax
import jax.numpy as jnp
import optax

from tests.tiny_methods import prepared


def _name(key, name):
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


class View:
    """What a method sees of the networks: plain dicts, copied at every change."""

    def __init__(self, networks, functions, rng, step, moving, penalty):
        self.networks, self.functions = networks, functions
        self.rng, self.step, self.moving, self.penalty = rng, step, moving, penalty
        self.calls, self.new, self.used = 0, {}, set()

    def apply(self, role, *inputs, train=None, ema=False, update=True):
        network, after = self.networks[role], copy.copy(self)
        after.new, after.used, after.calls = dict(self.new), set(self.used), self.calls + 1
        if ema:
            variables = {"params": network["ema_params"], **network["ema_stats"]}
            return self.functions[role](variables, *inputs, train=False), after
        after.used.add(role)
        stats = self.new[role] if update and role in self.new else network["stats"]
        train = (role in self.moving) if train is None else train
        if not train:
            return self.functions[role]({"params": network["params"], **stats}, *inputs, train=False), after
        key = jax.random.fold_in(_name(self.rng, role), self.calls)
        out, stats = self.functions[role](
            {"params": network["params"], **stats},
            *inputs,
            train=True,
            rngs={"dropout": _name(key, "dropout")},
            mutable=list(stats),
        )
        if update:
            after.new[role] = stats
        return out, after


def _with(networks, role, **changes):
    return {**networks, role: {**networks[role], **changes}}


def textbook_step(state, batch, *, method, config, updates, penalty=False):  # noqa: C901 - read top to bottom
    """Return role -> its params, stats, opt_state, step and averages after one step.

    For each slice, for each group in order on the current state, for each of its roles: forward and losses anew, the
    gradient of that role's loss with respect to that role's parameters alone, then all updates of the group.
    """
    functions = {role: network.apply_fn for role, network in state.networks.items()}
    tx = {role: network.tx for role, network in state.networks.items()}
    now = as_textbook(state)
    before = now
    moving = {role for group in updates for role in group}
    key = jax.random.fold_in(jax.random.key(state.seed), state.step)

    for number in range(config.rounds):
        piece = prepared(batch if config.rounds == 1 else jax.tree.map(lambda x, n=number: x[n], batch))
        rng = jax.random.fold_in(key, number)
        begin, rejected = now, {}
        origin = None  # the networks that `forward` runs on: the current ones, unless outputs are shared on purpose

        for place, group in enumerate(updates if number == config.rounds - 1 else updates[:-1]):
            if origin is None:
                origin = now
            stale = origin

            def view(networks, name, rng=rng):
                return View(networks, functions, _name(rng, name), state.step, moving, penalty)

            def forward(networks, piece=piece, view=view):
                nets = view(networks, "forward")
                return method.forward(nets, piece, nets.rng, config)

            _, acted = forward(stale)
            kept = {role: stats for role, stats in acted.new.items() if role in moving}
            for role, stats in kept.items():
                now = _with(now, role, stats=jnp_where(rejected.get(role), begin[role]["stats"], stats))

            def judged(params, role, place=place, now=now, stale=stale, forward=forward, view=view, piece=piece):
                outputs, acted = forward(_with(stale, role, params=params[0]))
                nets = view(_with(now, role, params=params[1]), "losses")
                nets.rng = jax.random.fold_in(nets.rng, place)
                nets.new = dict(acted.new)
                out = method.losses(nets, outputs, piece, nets.rng, config)
                return out.losses[role], (out.nets.new, out.accept)

            after = now
            for role in group:
                # Parameters of a shared, stale forward stand where they stood then; all others are the current ones.
                at = (stale[role]["params"] if role in acted.used else now[role]["params"], now[role]["params"])
                (g_forward, g_direct), (stats, accept) = jax.grad(judged, has_aux=True)(at, role)
                gradient = jax.tree.map(jnp.add, g_forward, g_direct)
                changes, opt_state = tx[role].update(gradient, now[role]["opt_state"], now[role]["params"])
                new = {
                    **now[role],
                    "params": optax.apply_updates(now[role]["params"], changes),
                    "opt_state": opt_state,
                    "step": now[role]["step"] + 1,
                }
                if role not in acted.used and role in stats:
                    new["stats"] = stats[role]
                if role in accept:
                    rejected[role] = ~accept[role] | rejected.get(role, False)
                    new = jnp_where(rejected[role], begin[role], new)
                after = {**after, role: new}
            now = after
            if not config.share_forward and acted.used & set(group):
                origin = None
            elif origin is not None:
                # Networks that do not act may have moved; the acting ones stand as they stood, statistics included.
                origin = {role: (stale[role] if role in acted.used else now[role]) for role in now}

    for role, network in now.items():
        if network["ema_params"] is not None:
            decay = jnp.minimum(config.ema_decay, (1.0 + network["step"]) / (10.0 + network["step"]))
            moved = network["step"] > before[role]["step"]
            for average, value in (("ema_params", "params"), ("ema_stats", "stats")):
                blended = jax.tree.map(lambda a, v, d=decay: d * a + (1 - d) * v, network[average], network[value])
                now = _with(now, role, **{average: jnp_where(~moved, network[average], blended)})
    return now


def jnp_where(condition, yes, no):
    """Choose between two trees; None never holds."""
    return no if condition is None else jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def as_textbook(state):
    """Return a state in the form of `textbook_step`'s."""
    return {
        role: {
            "params": network.params,
            "stats": network.collections,
            "opt_state": network.opt_state,
            "step": network.step,
            "ema_params": network.ema_params,
            "ema_stats": network.ema_collections,
        }
        for role, network in state.networks.items()
    }
