"""A flow meter in plain Python, written from the feature specification alone and shared by no code with `flowfeatures`.

It is the second opinion the compiled core is compared with: exact integers, one dictionary, no speed. Open `meter.py`
first; `reader.py` yields frames, `packet.py` decodes one, `flow.py` keeps a flow's numbers, `columns.py` turns them
into the 77 columns, `windows.py` groups records by device. Where the specification is silent, the reading taken stands
in the docstring of the function that takes it.
"""
