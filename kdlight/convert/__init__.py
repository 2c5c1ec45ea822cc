"""Published codecs in the layouts of their makers, rebuilt as codecs of kdlight."""
