"""What every method stands on: the base module, optimizers, averages, balance of losses."""
