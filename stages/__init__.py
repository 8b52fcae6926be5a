"""What a stage is; learn it, apply it, publish it."""
