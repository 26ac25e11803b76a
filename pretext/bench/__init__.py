"""How fast this machine does each part of the work, beside the plain way to do it and beside what the hardware can."""
