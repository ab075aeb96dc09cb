"""Tenancy without a database: attempts, secrecy, plans, passwords, mail."""
