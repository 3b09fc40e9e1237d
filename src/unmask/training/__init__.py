"""Training: the loss, the LightningModule, batches from token stores, optimisers and callbacks."""
