"""In-kernel capture by eBPF: programs (`*.bpf.c`, compiled beside them), their records, and who reads them."""
