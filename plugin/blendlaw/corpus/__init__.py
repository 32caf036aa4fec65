"""Corpus preparation: source code of several languages to Megatron's ``.bin`` and ``.idx``."""
