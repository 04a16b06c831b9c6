"""Waiting and shielding, on asyncio and trio alike."""
