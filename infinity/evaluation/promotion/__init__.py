"""Promotion: may a new model take the champion's place, and which model is champion?

Start with ``gate.py`` (paired comparison) and ``champions.py`` (numbered records). Decisions 23 and 24 say why.
"""
