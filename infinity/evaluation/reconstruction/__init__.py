"""How well the tokenizer alone gives pictures back: PSNR, SSIM, LPIPS.

Start with ``benchmark.py``.
"""
