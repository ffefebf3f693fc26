"""Proves on real parts that a watchdog killed anywhere in a switch leaves the right route and a whole journal.

Two processes take part. `__main__` has the servers, and looks at what is left of each killed watchdog from outside.
`nursery` has everything imported and forks a watchdog for each order; `points` tells where it may be killed.
"""
