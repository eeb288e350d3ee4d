"""Gradient search learns the probabilities of a mixture by descent. These files import torch and supernets."""

from nas.searchers.gradient.methods import METHODS, Darts, DrNas, Gdas, Method, SmallTemperature, Snas, method

__all__ = ["METHODS", "Darts", "DrNas", "Gdas", "Method", "SmallTemperature", "Snas", "method"]
