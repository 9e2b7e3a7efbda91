"""Layers from and to other projects' files. Each format's package is an optional extra, imported where it is used."""
