"""Models of the next token: their training, and students of their laws."""
