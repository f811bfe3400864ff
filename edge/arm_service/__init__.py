"""What a person does with an arm outside a run."""
