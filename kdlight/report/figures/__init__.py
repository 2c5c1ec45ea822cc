"""What every figure of ``summary.json`` is called and means, one table a domain."""
