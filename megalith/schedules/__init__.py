"""Pipeline schedules as data: who computes what in which order. Planning costs the very lists that training runs."""

from megalith.schedules.actions import Action, Lists, Op, holder, in_flight, parse
from megalith.schedules.build import NAMES, build
from megalith.schedules.check import check, gives, in_order, wants
from megalith.schedules.files import read_csv, write_csv

__all__ = [
    "NAMES",
    "Action",
    "Lists",
    "Op",
    "build",
    "check",
    "gives",
    "holder",
    "in_flight",
    "in_order",
    "parse",
    "read_csv",
    "wants",
    "write_csv",
]
