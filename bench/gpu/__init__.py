"""Proves the watchdog on a real GPU: real TensorRT engines in a real Triton, and faults that really happen.

Two interpreters take part. What imports TensorRT (`build_engines` and `served/`) runs in the one that
TensorRT's wheel is for, knows numpy and nothing of the watchdog; all else runs in the watchdog's own.
"""
