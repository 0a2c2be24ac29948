"""Seeded faults: does the harness bite?"""
