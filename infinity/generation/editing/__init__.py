"""Editing in bits: tokens outside a mask keep their bits, all others are drawn again.

``masks.py`` says which tokens a mask of pixels covers, ``sources.py`` gives the bits of a picture, ``records.py`` packs
what a picture needs to be drawn again, and ``edits.py`` has the edits. May import everything in ``generation``.
"""
