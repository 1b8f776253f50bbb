"""One calibration on many workers: who gets which run, the process that speaks Ray, and what a worker must have.

Ray is imported in a process of its own only (``link``), and only when a calibration asks for it.
"""
