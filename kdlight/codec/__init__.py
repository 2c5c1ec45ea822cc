"""Mathematics of neural speech codecs: quantisers, networks on waveforms, streaming."""
