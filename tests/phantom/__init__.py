"""A GPU that is not there, for tests of where tensors are: see ``tests.phantom.card``."""
