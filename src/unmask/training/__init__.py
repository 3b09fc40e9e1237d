"""Training: the loss over the batch contract, the one LightningModule, its data, optimiser and callbacks."""
