"""Launch scripts of Megatron training: read, never run, and held against what Megatron takes."""
