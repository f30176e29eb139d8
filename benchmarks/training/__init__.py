"""Steps of both trainings: kernels, precision, compiled blocks, estimates, planted faults and reference curves."""
