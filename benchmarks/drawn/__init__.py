"""Drawing: doors, rounding, serving, weights of few bits, search, watermarks, and nodes for ComfyUI."""
