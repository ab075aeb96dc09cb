"""Tenancy without a database: attempts, secrecy, plans, passwords, mail, what leaves after the answer."""
