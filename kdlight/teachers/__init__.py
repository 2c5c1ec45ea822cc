"""Teachers: frozen generators from a run, an asset, a diffusers folder or the hub."""
