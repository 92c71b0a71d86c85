"""The watch over accesses: what is abnormal becomes an incident."""
