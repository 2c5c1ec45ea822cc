"""Methods that change what a language model is: exits, weights, mixers, experts."""
