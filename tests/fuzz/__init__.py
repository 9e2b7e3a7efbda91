"""Fuzzing: drawn files and drawn arguments, of which nothing may come but an answer or a documented exception."""
