"""Windows calls that the standard library lacks, through ctypes, and pure readers of the structures that they fill."""
