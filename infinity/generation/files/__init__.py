"""Files of generation: model folders, their download from a hub, and pictures with their settings."""
