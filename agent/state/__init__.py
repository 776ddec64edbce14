"""What the agent keeps on disk besides alerts: files that survive a power cut, rules, and how long they stay."""
