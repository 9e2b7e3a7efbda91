"""Whole models of amplifiers' JSON files: NAM, RTNeural, AIDA-X and GuitarML."""
