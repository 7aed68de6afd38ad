"""What a training will take on a slice of Cloud TPUs, told by the TPU's compiler on a machine without one."""
