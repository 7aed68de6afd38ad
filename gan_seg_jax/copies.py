"""The former name of `python -m gan_seg_jax.memorization`."""

from gan_seg_jax.memorization import run

if __name__ == "__main__":
    run()
