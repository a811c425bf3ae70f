"""The parts of `gpu.py`: one file each, with a function `run(job)`."""
