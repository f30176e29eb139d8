"""How well the tokenizer alone reconstructs pictures: PSNR, SSIM, LPIPS.

Start with ``benchmark.py``.
"""
