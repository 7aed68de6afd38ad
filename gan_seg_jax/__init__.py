"""Segmenting images with adversarial and generative training, in JAX and Flax."""
