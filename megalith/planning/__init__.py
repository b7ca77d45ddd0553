"""Deciding what to train, where and how, before it is spent: a module for each verb of `megalith plan`."""
