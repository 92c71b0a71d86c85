"""The transparency log: what it attests is written as leaves, in the transaction attested."""
