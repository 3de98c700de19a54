"""Requests as customers make them, offered on a schedule by a process of its own."""
