"""A trained network -> pruned -> int8-stored ONNX graph -> gated, signed bundle.

Open `pack` first: it walks the whole way. `graph` builds the ONNX nodes, `parity` compares them with torch, `cli` is
`penstock-export`.
"""
