"""Simulation 仿真: the real verbs of settlement, a real database, and a channel that does its worst.

One scheduler owns the clock, the network and the channel. Every fault is drawn from the seed and the name of
what it befalls (order, transfer, how often), never from the order in which things happen to run, so the same
seed has the same story whatever ids the database gave. The trace of that story is hashed.

At rest three questions are asked: did any payout move money twice, is anything stuck without a case, and did
reconciliation find the differences that were put into the bills, all of them and no others.
"""

from quanhui.simulation.run import Outcome, simulate

__all__ = ["Outcome", "simulate"]
