"""Voices that read sentences: text to speech engines and a formant synthesiser."""
