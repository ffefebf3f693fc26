"""The command line: each file holds the commands of one occasion.

Exit codes: 0, as it should be; 1, what was asked about is not; 2, the call or the configuration
is wrong; 3, nothing could be reached.
"""
