"""Gradient search: the probabilities of a mixture are learnt by descent; these files know torch and supernets."""

from nas.searchers.gradient.methods import METHODS, Darts, DrNas, Gdas, Method, SmallTemperature, Snas, method

__all__ = ["METHODS", "Darts", "DrNas", "Gdas", "Method", "SmallTemperature", "Snas", "method"]
