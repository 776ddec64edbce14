"""What `penstock bridge` is made of: alerts from a broker to where a SIEM reads them. Open `bridge` first."""
