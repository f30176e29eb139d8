"""Mutation run: change one place of the core at a time and see whether a test notices.

``python -m tests.mutation --seed 0 --number 400`` samples that many mutants, runs the tests that reach the changed
function, and writes results and a report into ``runs/mutation``. A mutant that no test notices needs a test of its
law, or an entry in ``equivalent.toml`` with the reason why nobody can notice it.
"""
