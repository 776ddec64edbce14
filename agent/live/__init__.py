"""`penstock run`: the service and its parts, built in `service`, turned by `pipeline`."""
