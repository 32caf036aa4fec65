"""blendlaw inside a training run: the only code that imports torch and Megatron."""
