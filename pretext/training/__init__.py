"""The one training loop and what it needs: seeds, device, batches, optimiser, saved state."""
