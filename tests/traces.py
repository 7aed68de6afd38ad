"""Notes of what labelling traces, which it does once for each program that it compiles."""

from gan_seg_jax.inference import scoring


def note(monkeypatch) -> tuple[list[int], list[tuple[int, int]]]:
    """Return two lists that grow with each trace: of the network a 1, of the choice of labels their size."""
    looks, choices, views, chooser = [], [], scoring.make_views, scoring.make_chooser

    def noting(*arguments):
        look = views(*arguments)
        return lambda state, stream: looks.append(1) or look(state, stream)

    def noting_sizes(*arguments):
        choose = chooser(*arguments)
        return lambda views, stream, out_size: choices.append(out_size) or choose(views, stream, out_size)

    monkeypatch.setattr(scoring, "make_views", noting)
    monkeypatch.setattr(scoring, "make_chooser", noting_sizes)
    return looks, choices
