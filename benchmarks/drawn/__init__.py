"""Drawing: weights of few bits, search at drawing time, and nodes for ComfyUI without ComfyUI."""
