"""Models of other frameworks come in here, exactly or not at all."""
