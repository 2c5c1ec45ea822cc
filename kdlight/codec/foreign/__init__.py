"""Codecs of transformers behind the interface of kdlight's."""
