"""Toolkit around the F-Pig model: data, training, embedding, evaluation, search and release."""
