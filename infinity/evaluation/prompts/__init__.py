"""What benchmarks over prompts share: prompt lists, rewriting, drawing, judging, counts of missing pictures.

Start with ``benchmark.py``; ``found.py`` recognises the picture folders of GenEval, DPG-Bench and flat layouts.

"""
