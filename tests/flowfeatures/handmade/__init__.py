"""Small captures with the records they must give, worked out by hand and run through both meters.

They show what no file of the corrected CICFlowMeter shows, and what we do otherwise on purpose (docs/FEATURES.md, 4):

| what | where |
| --- | --- |
| port reuse after FIN; SYN+ACK reopening; FIN from one side; FIN+ACK in state 2; RST; linger | `test_closing.py` |
| gaps of exactly 5, 15, 60 and 120 s; a cut at the active timeout and what it leaves | `test_timeouts.py` |
| clock steps back; order of leaving | `test_clock.py` |
| one direction tagged; VLANs in the key; one address at both ends; direction of a first SYN+ACK | `test_ends.py` |
| whole rows: both IP versions, windows, half close, gaps of 1 and 5 s, a step back, no duration | `test_rows.py` |
| whole rows: ICMP and other protocols, fragments | `test_protocols.py` |
| a full table: who leaves | `test_full_table.py` |
| a full table: shortened timeouts | `test_emergency.py` |
| bulks and pure ACKs, subflows, spells, column by column | `../test_vector.py` |
| partial records | `../test_partials.py` |
| link types, lengths, header chains, reasons for not decoding | `../test_packet.py` |
"""
