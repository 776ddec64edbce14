"""Attack programs of ours, where no apt tool does the thing or does it slowly: `python -m lab.bots KIND ...`.

Open `__main__` first. They are run by the lab on attacking hosts of its own network and nowhere else.
"""
