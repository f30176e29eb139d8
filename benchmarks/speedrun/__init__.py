"""The speedrun: what the demo's stages take from an empty folder, by seed, beside an older tree (docs/speedrun.md)."""
