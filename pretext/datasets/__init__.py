"""Where images come from: each source yields uint8 RGB squares with ids and labels; nothing here imports torch."""
