"""`voxdex evaluate`: how good the answers are, on recordings whose speakers are known."""
