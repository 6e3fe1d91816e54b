"""The commands in a terminal, a file each; they ask others for the work and say the outcome."""
