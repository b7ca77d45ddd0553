"""Pipeline schedules as data: who computes what in which order. Planning costs the very lists that training runs."""

from megalith.schedules.actions import Action, Lists, Op, holder, in_flight, parse
from megalith.schedules.build import NAMES, build
from megalith.schedules.check import check, gives, in_order, wants
from megalith.schedules.files import read_csv, write_csv
from megalith.schedules.lists import action_lists
from megalith.schedules.stages import counts_embedding_and_logits, deal_evenly, layers_of_stages

__all__ = [
    "NAMES",
    "Action",
    "Lists",
    "Op",
    "action_lists",
    "build",
    "check",
    "counts_embedding_and_logits",
    "deal_evenly",
    "gives",
    "holder",
    "in_flight",
    "in_order",
    "layers_of_stages",
    "parse",
    "read_csv",
    "wants",
    "write_csv",
]
