"""On a gateway: labels, fine-tuning of the head, the local gate, `penstock-finetune`. No torch, no socket."""
