"""Carries out an adaptation plan in a staged root; each change has its inverse recorded before it is made."""
